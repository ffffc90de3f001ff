"""What the pages name exists: metrics, flags, files, tests and Python names, all taken from the code."""

import argparse
import json
import pkgutil
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from support.processes import run
from tests.support.claims import commands
from tests.support.documents import PAGES, ROOT, blocks

from mlpserve_client.cli import parser as client_parser
from mlpserve_server.cli import parser as server_parser
from mlpserve_server.observe.metrics import Description, Metrics
from mlpserve_server.observe.prometheus import GPU_GAUGES, families
from mlpserve_server.store_cli import parser as store_parser
from mlpserve_trainer.cli import parser as trainer_parser

PARSERS = {
    "mlpserve": client_parser(),
    "mlpserve-server": server_parser(),
    "mlpserve-store": store_parser(),
    "mlpserve-train": trainer_parser(),
}
READ = [*PAGES, ROOT / "CHANGELOG.md"]
METRIC = re.compile(r"\b(?:mlpserve|grpc_server)_[a-z0-9_]+\b(?![./:])")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Programs that are not ours and are named with their flags in running text; what they take is not checked.
FOREIGN = {
    "docker",
    "pip",
    "npm",
    "npx",
    "envoy",
    "uvicorn",
    "torchrun",
    "kubectl",
    "python",
    "sha256sum",
    "openssl",
    "curl",
    "perf_analyzer",
    "sh",
}
# Flags of such programs, where the text names them alone.
FOREIGN_FLAGS = {
    "--periodic-concurrency-range": "perf_analyzer",
    "--exit-code-from": "docker compose",
    "--follow": "docker compose logs",
    "--config-yaml": "envoy",
    "--gpus": "docker run",
    "--build-arg": "docker build",
    "--device": "python -m bench.gpu",
    "--quick": "python -m bench.gpu",
    "--only": "python -m bench.gpu",
}


# --- metrics -------------------------------------------------------------------------------------------------------


@cache
def exported() -> set[str]:
    """Every name that the server exports, from a registry of several workers on a GPU."""
    counts = {"classes": [1], "confidence": [1], "ink": 0.1}
    labels = dict.fromkeys(("model", "version", "digest", "provider", "precision"), "x")
    metrics = Metrics(lambda: Description(labels, {"images": 1, **counts, "reference": counts}))
    metrics.workers = {"configured": 2, "ready": 2}
    kinds = {family.name: family.type for family in families(metrics)}
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count", "")}
    names = {name + suffix for name, kind in kinds.items() for suffix in suffixes.get(kind, ("",))}
    return names | {name for name, _, _ in GPU_GAUGES}


def unknown_metrics(text: str) -> set[str]:
    """Names in the form of our metrics that nothing exports; Python's packages are no metrics."""
    named = {name.removesuffix("_") for name in METRIC.findall(text)}
    packages = {"mlpserve_client", "mlpserve_server", "mlpserve_trainer"}
    return {name for name in named - packages - exported() if not _is_prefix(name)}


def _is_prefix(name: str) -> bool:
    """`mlpserve_gpu_…` and the adapter's `mlpserve_queue_seconds_p90` are made of names that are there."""
    return name == "mlpserve_gpu" or re.sub(r"_p\d+$", "", name) in exported()


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_metrics_of_the_pages_are_exported(page: Path) -> None:
    assert unknown_metrics(page.read_text()) == set()


def test_metrics_of_rules_dashboards_and_manifests_are_exported() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    dashboard = json.loads((ROOT / "deploy/grafana/mlpserve.json").read_text())
    assert rules
    assert dashboard["panels"]
    for path in sorted((ROOT / "deploy").rglob("*.y*ml")) + sorted((ROOT / "deploy").rglob("*.json")):
        assert unknown_metrics(path.read_text()) == set(), path


def test_short_names_of_metrics_in_operations_are_exported() -> None:
    """Its table of failures leaves out the prefix."""
    table = (ROOT / "docs/operations.md").read_text().partition("| what happens |")[2].partition("\n\n")[0]
    columns = [row.split("|")[3] for row in table.splitlines()[2:]]
    named = {name for column in columns for name in re.findall(r"`([a-z_]+)(?:\{[^`]*\})?`", column)} - {"up"}
    assert "worker_restarts_total" in named
    assert {name for name in named if f"mlpserve_{name}" not in exported()} == set()


def test_reasons_of_dropped_calls_are_counted() -> None:
    """The values of `reason` that pages and rules name are ones that the server's code counts."""
    source = "\n".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    literals = set(re.findall(r'"([a-z_]+)"', source))
    texts = [path.read_text() for path in (*PAGES, ROOT / "deploy/prometheus/rules.yml")]
    named = {
        reason for text in texts for group in re.findall(r'reason=~?"([\w|]+)"', text) for reason in group.split("|")
    }
    assert {"overload", "hopeless"} <= named <= literals


# --- flags ---------------------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long flags of a parser and of its commands."""
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for command in action.choices.values() for option in options(command)}
    return found


@cache
def known() -> dict[str, set[str]]:
    found = {program: options(parser) for program, parser in PARSERS.items()}
    for command in ("compare", "sweep"):  # their parsers are made when they run
        found["mlpserve-train"] |= set(FLAG.findall(run("mlpserve-train", command, "--help").stdout))
    return found


def unknown_flags(command: str) -> set[str]:
    """Flags of a command line that its executable does not have; other programs' are not looked at."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    program = next((Path(word).name for word in words if "=" not in word), "")
    used = {word.partition("=")[0] for word in words if FLAG.match(word)}
    if program in known():
        return used - known()[program]
    if program in FOREIGN or not used:
        return set()
    return used - set().union(*known().values()) - FOREIGN_FLAGS.keys()


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_of_the_pages_are_in_the_parsers(page: Path) -> None:
    text = page.read_text()
    wrong = {f"{flag} in `{span}`" for span in SPAN.findall(text) for flag in unknown_flags(span)}
    if page.name != "CHANGELOG.md":
        for block in blocks(page):
            if block.language == "bash":
                wrong |= {f"{flag} in {c}" for c in commands(block) if "$(" not in c for flag in unknown_flags(c)}
    assert wrong == set()


HELPS = [
    *PARSERS,
    *(f"mlpserve {name}" for name in ("info", "predict", "score", "playground", "doctor", "completion")),
    *(f"mlpserve-store {name}" for name in ("list", "verify", "push", "promote", "rollback", "follow-newest")),
    *(f"mlpserve-train {name}" for name in ("compare", "sweep")),
]


@pytest.mark.parametrize("command", HELPS)
def test_help_fits_a_hundred_columns(command: str) -> None:
    program, *words = command.split()
    shown = run(program, *words, "--help", env={"COLUMNS": "100"}).stdout
    assert shown.startswith(f"usage: {command}")
    assert [line for line in shown.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("program", ["mlpserve", "mlpserve-server", "mlpserve-train", "mlpserve score"])
def test_help_is_grouped(program: str) -> None:
    """Nothing but --help and --version is left among the options of no group, and every group has something."""
    name, *words = program.split()
    parser = PARSERS[name]
    if words:
        (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = commands.choices[words[0]]
    assert {action.dest for action in parser._optionals._group_actions} <= {"help", "version"}
    titled = [group for group in parser._action_groups if group not in (parser._optionals, parser._positionals)]
    assert len(titled) >= 3
    assert all(group._group_actions for group in titled)


# --- files, tests, Python names ------------------------------------------------------------------------------------


@cache
def tracked() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(listed.stdout.splitlines())


FILE = re.compile(r"^[\w.*/-]+\.(?:py|md|proto|yaml|yml|toml|json|txt|js|sh|binpb|svg|png)$")
# Files that commands write, in a reader's folder or below build/, and files of other projects.
WRITTEN = re.compile(
    r"^(build/|docs/gpu$|docs/gpu/|gpu-kit/|store/|answers/|_job\.json|manifest\.|promoted\.json|report\.html|photo\.png|\.training"
    r"|images\.|labels|train-|test-images|golden\.|service\.py|\w+\.sha256|_part-|MODEL_CARD\.md|x_|DIR/)"
)


def unknown_files(text: str) -> set[str]:
    """Paths in code spans that are not in the repository; a name without a folder may be anywhere in it."""
    found = set()
    for span in SPAN.findall(text):
        name = span.partition("::")[0].partition("#")[0].rstrip("/")
        top = name.partition("/")[0]
        folder = (
            "/" in name and top in {path.partition("/")[0] for path in tracked()} and re.fullmatch(r"[\w./*-]+", name)
        )
        if WRITTEN.match(name) or not (FILE.match(name) or folder):
            continue
        pattern = re.escape(name).replace(r"\*", "[^/]*")
        if not any(re.search(rf"(^|/){pattern}(/|$)", path) for path in tracked()):
            found.add(span)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_pages_exist(page: Path) -> None:
    assert unknown_files(page.read_text()) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_of_the_pages_exist(page: Path) -> None:
    named = {name for span in SPAN.findall(page.read_text()) for name in re.findall(r"\btest_\w+(?!\w|\.py)", span)}
    modules = [path for folder in ("tests", "bench/tests") for path in (ROOT / folder).rglob("test_*.py")]
    defined = "\n".join(path.read_text() for path in modules)
    files = {Path(path).stem for path in tracked()}
    assert {n for n in named if n not in files and not re.search(rf"^def {n}\(", defined, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_names_of_the_pages_exist(page: Path) -> None:
    dotted = r"`(mlpserve_(?:client|server|trainer)(?:\.\w+)+)"
    for name in re.findall(dotted, page.read_text()):
        pkgutil.resolve_name(name)


def test_pages_that_messages_name_have_the_headings() -> None:
    """Every `docs/….md#heading` in the product's source leads somewhere."""
    product = [path for folder in ("server", "client", "trainer") for path in (ROOT / folder).rglob("*.py")]
    named = {link for path in product for link in re.findall(r"docs/[\w/-]+\.md(?:#[\w-]+)?", path.read_text())}
    assert len(named) > 10
    for link in named:
        page, _, anchor = link.partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, link


# --- the checks themselves -----------------------------------------------------------------------------------------


def test_what_does_not_exist_is_found() -> None:
    assert unknown_metrics("watch `mlpserve_worker_deaths_total`") == {"mlpserve_worker_deaths_total"}
    assert unknown_flags("mlpserve-server --hidden 3") == {"--hidden"}
    assert unknown_flags("--no-such-flag") == {"--no-such-flag"}
    assert unknown_files("see `server/mlpserve_server/nowhere.py` and `nowhere.py`, not `LICENSE`") == {
        "server/mlpserve_server/nowhere.py",
        "nowhere.py",
    }
