"""A .proto file as a page: every service, message and enum with its comments.

It reads this project's own .proto files, whose form is simple: a comment stands above what it is about, and one thing
stands in a line.
"""

import re
from pathlib import Path

FIELD = re.compile(r"^(repeated |optional )?(map<[^>]+>|[\w.]+) (\w+) = (\d+)( \[[^\]]*\])?;")
VALUE = re.compile(r"^(\w+) = (\d+);")
METHOD = re.compile(r"^rpc (\w+)\((stream )?([\w.]+)\) returns \((stream )?([\w.]+)\)")
BLOCK = re.compile(r"^(service|message|enum) (\w+) \{")


def page(title: str, path: Path) -> str:
    """The page of one file."""
    out, comment, kind = [f"# {title}\n\n`{path.name}`, package `mlpserve.v1`.\n"], [], ""
    for line in map(str.strip, path.read_text().splitlines()):
        if line.startswith("//"):
            comment.append(line[2:].removeprefix(" "))
            continue
        if block := BLOCK.match(line):
            kind = block[1]
            out.append(f"\n## {block[2]}\n\n{_text(comment)}\n")
            if kind == "message" and not line.endswith("{}"):
                out.append("| field | type | number | |\n|---|---|--:|---|")
            elif kind == "enum":
                out.append("| value | number | |\n|---|--:|---|")
        elif method := METHOD.match(line):
            out.append(f"\n### {method[1]}\n\n`{method[3]}` → `{method[5]}`. {_cell(comment)}\n")
        elif kind == "message" and (field := FIELD.match(line)):
            out.append(f"| `{field[3]}` | {(field[1] or '').strip()} `{field[2]}` | {field[4]} | {_cell(comment)} |")
        elif kind == "enum" and (value := VALUE.match(line)):
            out.append(f"| `{value[1]}` | {value[2]} | {_cell(comment)} |")
        comment = []
    return "\n".join(out) + "\n"


def _text(comment: list[str]) -> str:
    """Paragraphs; lines that are indented stay as they are."""
    if any(line.startswith("  ") for line in comment):
        plain = [line for line in comment if not line.startswith("  ")]
        return "\n".join(plain) + "\n\n```text\n" + "\n".join(x for x in comment if x.startswith("  ")) + "\n```"
    return "\n".join(comment)


def _cell(comment: list[str]) -> str:
    return " ".join(comment).replace("|", "\\|")
