"""Whether a test runs what a documented block says: the `holds` comments of the pages, read against the tests' source.

A block that is not run where it stands names the tests that run its commands: `<!-- holds PATH::TEST -->`. A command
that no test runs says so, with why: `<!-- untested COMMAND: WHY -->`.
"""

import ast
import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.support.documents import ROOT, Block

TARGET = re.compile(r"^([\w-]+):[^\n]*\n((?:\t[^\n]*\n?)*)", re.MULTILINE)
# What a test says that runs a program by another name.
ALIASES = {"torchrun": "torch.distributed.run"}


@dataclass
class Source:
    """What a test and the helpers that it reaches say.

    Attributes:
        words: of their string literals, split at white space.
        defined: names of the functions, fixtures and constants that were reached.
    """

    words: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)


@cache
def _definitions(path: Path) -> tuple[dict[str, ast.stmt], dict[str, Path]]:
    """The top-level definitions of a module, and where the names that it imports from the helpers come from."""
    found: dict[str, ast.stmt] = {}
    imported: dict[str, Path] = {}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(("tests.", "support.")):
            where = ROOT / f"{(statement.module or '').replace('.', '/')}.py"
            if where.exists():
                imported |= {alias.asname or alias.name: where for alias in statement.names}
    return found, imported


def tests_of(path: Path) -> set[str]:
    """Names of the tests in a module."""
    return {
        name
        for name, statement in _definitions(path)[0].items()
        if isinstance(statement, ast.FunctionDef) and name.startswith("test_")
    }


def source_of(path: Path, name: str) -> Source:
    """What a test says, with the fixtures, constants and helpers that it reaches, here and in the support folders."""
    source = Source()
    waiting = [(path, name)]
    while waiting:
        where, wanted = waiting.pop()
        if f"{where}:{wanted}" in source.defined:
            continue
        source.defined.add(f"{where}:{wanted}")
        definitions, imported = _definitions(where)
        if wanted in imported:
            waiting.append((imported[wanted], wanted))
        elif wanted in definitions:
            statement = definitions[wanted]
            for node in ast.walk(statement):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    source.words.update(node.value.split())
                elif isinstance(node, ast.Name):
                    waiting.append((where, node.id))
                elif isinstance(node, ast.arg):  # a fixture, here or in the conftest.py above
                    waiting.append((where, node.arg))
        else:
            folders = [folder for folder in where.parents if (folder / "conftest.py").exists()]
            above = next((folder / "conftest.py" for folder in folders if folder / "conftest.py" != where), None)
            if above is not None:
                waiting.append((above, wanted))
    return source


def commands(block: Block) -> list[str]:
    """The commands of a block of shell, without comments."""
    lines = block.code.replace("\\\n", " ").splitlines()
    found = [re.split(r"(?:^|\s)#", line)[0].strip() for line in lines]
    split = [part for line in found for part in re.split(r"\s{4,}", line)]
    return [command for command in split if command]


def evidence(command: str) -> set[str]:
    """What the source of a test must say to run a command: the program, its subcommand, its flags, its extras."""
    program, *words = shlex.split(command)
    if program == "make":
        return _recipe(words[0])
    if program == "pip":
        return {
            extra.group() if (extra := re.search(r"\[.*\]", word)) else word
            for word in words
            if word not in ("install", ".")
        }
    if words and words[0].endswith((".py", ".mjs")):  # whatever runs it
        return {Path(words[0]).name} | {word.partition("=")[0] for word in words if word.startswith("-")}
    needed = {ALIASES.get(program, program)}
    if program == "sh":
        return needed | {Path(words[0]).name}
    needed |= {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
    needed |= {word for word in words[:1] if re.fullmatch(r"[a-z][a-z-]+", word)}
    if program == "docker":  # services and profiles are words of their own
        needed = {word for word in words if word != "compose"}
    return needed


def _recipe(target: str) -> set[str]:
    """The files and modules that a target of the Makefile runs."""
    recipes = dict(TARGET.findall((ROOT / "Makefile").read_text()))
    return set(re.findall(r"(?<=python )[\w/]+\.py|(?<=-m )bench[\w.]+", recipes.get(target, ""))) or {"make", target}


def missing(block: Block) -> list[str]:
    """What is wrong with the claims above a block: tests that are not there, and commands that none of them runs."""
    wrong, words, verbatim = [], set(), False
    page = str(block.page.relative_to(ROOT))
    for claim in block.all_notes("holds"):
        name, _, test = claim.partition("::")
        if not (ROOT / name).exists() or test not in tests_of(ROOT / name):
            wrong.append(f"{name} has no {test}")
            continue
        source = source_of(ROOT / name, test)
        words |= source.words
        # It takes the block from the page; of Python, by whatever means.
        taken = block.language != "bash" or any(name.endswith("documents.py:blocks") for name in source.defined)
        verbatim |= page in source.words and taken
    excused = [note.partition(": ") for note in block.all_notes("untested")]
    wrong += [f"untested {what}: give a reason" for what, _, why in excused if not why]
    if block.language != "bash":
        return wrong if verbatim else [*wrong, f"no named test reads {page}"]
    used = set()
    for command in commands(block):
        prefix = next((what for what, _, _ in excused if command.startswith(what)), None)
        used.add(prefix)
        if prefix is None and not verbatim and (lacking := evidence(command) - words):
            wrong.append(f"{command!r}: the named tests do not say {sorted(lacking)}")
    wrong += [f"untested {what}: the block has no such command" for what, _, _ in excused if what not in used]
    return wrong
