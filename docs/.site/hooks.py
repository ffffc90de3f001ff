"""Pages that are made from the code when the site is built, and links that lead out of it.

index.md                     the README
examples.md                  examples/README.md, with the programs themselves
reference/<executable>.md    tables of the flags of --help, for every command
reference/contract.md        the .proto files, with their comments
reference/changes.md         the CHANGELOG
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import flag_pages
import proto_pages

import mlpserve_client.cli
import mlpserve_server.cli
import mlpserve_server.store_cli
import mlpserve_trainer.cli

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "index.md": _from_root("README.md"),
        "examples.md": _examples(),
        "README.zh-CN.md": _from_root("README.zh-CN.md"),
        "reference/contract.md": proto_pages.page("The contract", ROOT / "proto/mlpserve/v1/classifier.proto"),
        "reference/artifact.md": proto_pages.page("The artifact", ROOT / "proto/mlpserve/v1/artifact.proto"),
        "reference/changes.md": (ROOT / "CHANGELOG.md").read_text(),
    }
    programs = {
        "mlpserve": flag_pages.commands(mlpserve_client.cli.parser()),
        "mlpserve-server": flag_pages.commands(mlpserve_server.cli.parser()),
        "mlpserve-store": flag_pages.commands(mlpserve_server.store_cli.parser()),
        "mlpserve-train": mlpserve_trainer.cli.parsers(),
    }
    for program, parsers in programs.items():
        pages[f"reference/{program}.md"] = flag_pages.page(program, parsers)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages become their paths."""

    def replace(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = target.partition("#")[0]
        if "://" in path or not path.startswith("../"):
            return match[0]
        source = Path(page.file.src_uri).parent
        inside = os.path.normpath(Path("docs") / source / path)
        if inside == "examples/README.md":
            return f"[{text}]({target.replace('examples/README.md', 'examples.md').removeprefix('../')})"
        if inside.startswith("docs/"):
            return match[0]
        return f"{text} (`{inside}`)" if text.strip("`/") not in inside else f"`{inside}`"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", replace, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Words with hyphens in running code, `--keep-versions` for one, are not broken over two lines."""

    def whole(match: re.Match[str]) -> str:
        words = re.split(r"(\s+)", match[1])
        return (
            f"<code>{''.join(f'<span class=whole>{w}</span>' if '-' in w and len(w) < 40 else w for w in words)}</code>"
        )

    return re.sub(r"<code>([^<\n]*-[^<\n]*)</code>", whole, html)


def _from_root(name: str) -> str:
    """A page of the repository's root, with its links as seen from docs/."""

    def replace(match: re.Match[str]) -> str:
        target = match[1]
        if "://" in target or target.startswith("#"):
            return match[0]
        if target.startswith("docs/"):
            return f"]({target.removeprefix('docs/')})"
        if target in ("README.md", "README.zh-CN.md"):
            return f"]({target.replace('README.md', 'index.md')})"
        if target == "examples/README.md":
            return "](examples.md)"
        return "](reference/changes.md)" if target == "CHANGELOG.md" else f"](../{target})"

    return re.sub(r"\]\(([^)\s]+)\)", replace, (ROOT / name).read_text())


def _examples() -> str:
    """The examples' README, with each program below the section that says how to run it."""
    introduction, *sections = re.split(r"^(?=## )", (ROOT / "examples/README.md").read_text(), flags=re.MULTILINE)
    introduction = re.sub(r"\[([^\]]+)\]\((?!#)[^)]+\)", r"`\1`", introduction)  # files; the sections show them
    for number, section in enumerate(sections):
        name = re.findall(r"[\w/]+\.(?:py|mjs)", introduction.replace("`", " "))[number]
        language = {"py": "python", "mjs": "javascript"}[name.rpartition(".")[2]]
        code = (ROOT / "examples" / name).read_text().rstrip()
        sections[number] = f"{section.rstrip()}\n\n`examples/{name}`:\n\n```{language}\n{code}\n```\n\n"
    return introduction + "".join(sections)
