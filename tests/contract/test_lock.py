"""What callers build on does not change by accident: each kind is broken on purpose, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compatibility import client_api, commands
from compatibility.check import next_version
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("proto", "server", "client", "trainer")
GENERATOR = ROOT / ".venv-proto/bin/python"


def _check(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(root / package) for package in PACKAGES)
    return subprocess.run(
        [sys.executable, ".ci/compatibility", *words],
        cwd=root, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_callers_build_on_is_as_locked() -> None:
    checked = _check(ROOT)
    assert checked.returncode == 0, checked.stderr


@pytest.fixture(scope="module")
def on_the_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository as on the day of a release, 0.1.0: what has come since the last one is promised too."""
    root = tmp_path_factory.mktemp("repository")
    skipped = shutil.ignore_patterns("__pycache__", "wire", "*.gz", "*.npz", "static")
    for package in (*PACKAGES, "contract", ".ci"):
        shutil.copytree(ROOT / package, root / package, ignore=skipped)
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root / name)
    _check(root, "accept")
    for path in (root / "contract/released").iterdir():
        shutil.copy(root / "contract" / path.name, path)
    _edit(root, "contract/release.json", r'"version": ".*"', '"version": "0.1.0"')
    _edit(root, "pyproject.toml", r'^version = ".*"', 'version = "0.1.0"')
    checked = _check(root)
    assert checked.returncode == 0, checked.stderr
    return root


@pytest.fixture
def copy(on_the_day: Path, tmp_path: Path) -> Path:
    """A copy of that to change."""
    return Path(shutil.copytree(on_the_day, tmp_path / "repository"))


def _edit(root: Path, name: str, old: str, new: str) -> None:
    text, count = re.subn(old, new, (root / name).read_text(), flags=re.MULTILINE)
    assert count, f"{name} has no {old}"
    (root / name).write_text(text)


BREAKS = {
    "a field of the contract gets another number": (
        "proto/mlpserve/v1/classifier.proto",
        r"uint32 top_k = 4;",
        "uint32 top_k = 14;",
        ["the contract of 0.1.0", "breaking: field mlpserve.v1.PredictRequest 4 is gone", "set the version"],
    ),
    "a field of the manifest gets another type": (
        "proto/mlpserve/v1/artifact.proto",
        r"repeated string labels = 6;",
        "string labels = 6;",
        ["the artifact of 0.1.0", "breaking: manifest.labels: list of string → string", "make contract"],
    ),
    "a file of the artifact gets another name": (
        "proto/mlpserve/artifact.py",
        r'^MANIFEST = "manifest.json"',
        'MANIFEST = "model.json"',
        ["the artifact of 0.1.0", "breaking: file MANIFEST: manifest.json → model.json"],
    ),
    "a flag is renamed": (
        "server/mlpserve_server/config.py",
        r"^    max_streams: int",
        "    most_streams: int",
        ["the command lines of 0.1.0", "breaking: mlpserve-server --max-streams is gone", "0.2.0"],
    ),
    "an exit code changes": (
        "server/mlpserve_server/cli.py",
        r"3 --drain-timeout passed first",
        "5 --drain-timeout passed first",
        ["the command lines of 0.1.0", "breaking: mlpserve-server exit 3 is gone"],
    ),
    "a metric is renamed": (
        "server/mlpserve_server/observe/prometheus.py",
        r'"mlpserve_ready"',
        '"mlpserve_is_ready"',
        ["the metrics of 0.1.0", "breaking: mlpserve_ready is gone", "Restore it"],
    ),
    "a metric loses a label": (
        "server/mlpserve_server/observe/prometheus.py",
        r'"Images waiting.", labels=\["traffic"\]',
        '"Images waiting.", labels=["queue"]',
        ["breaking: mlpserve_queue_images label traffic is gone"],
    ),
    "a column of the answers gets another type": (
        "client/mlpserve_client/scoring/output/parts.py",
        r"np.full\(count, plan.model.version, np.int64\)",
        "np.full(count, plan.model.version, np.int32)",
        ["the answers of `mlpserve score` of 0.1.0", "breaking: model_version: int64 → int32", "make contract"],
    ),
    "a parameter of the client is renamed": (
        "client/mlpserve_client/client.py",
        r"^        top_k: int = 1,",
        "        best: int = 1,",
        ["mlpserve_client's interface of 0.1.0", "breaking: Client.predict(top_k) is gone"],
    ),
    "an error of the client is no longer exported": (
        "client/mlpserve_client/__init__.py",
        r'^    "OverloadedError",$',
        "",
        ["mlpserve_client's interface of 0.1.0", "breaking: OverloadedError is gone"],
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_break_is_refused_with_what_to_do(what: str, copy: Path) -> None:
    name, old, new, sentences = BREAKS[what]
    _edit(copy, name, old, new)
    if name.endswith(".proto"):
        if not GENERATOR.exists():
            pytest.skip("no .venv-proto: run `make test`, which makes it")
        subprocess.run([GENERATOR, copy / "proto/generate.py", copy / "proto"], check=True, capture_output=True)
    refused = _check(copy)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    for sentence in (*sentences, "Restore it, or, if that is meant, set the version in pyproject.toml to 0.2.0"):
        assert sentence in refused.stderr


def test_a_break_is_no_small_version_even_if_accepted(copy: Path) -> None:
    name, old, new, _ = BREAKS["a flag is renamed"]
    _edit(copy, name, old, new)
    _edit(copy, "pyproject.toml", r'^version = ".*"', 'version = "0.1.1"')
    _edit(copy, "CHANGELOG.md", r"^### Added$", "### Added\n\n- `--most-streams` in place of `--max-streams`.")
    assert "to 0.2.0 at least" in _check(copy, "accept").stderr
    _edit(copy, "pyproject.toml", r'^version = ".*"', 'version = "0.2.0.dev0"')
    assert _check(copy).returncode == 0


def test_an_addition_needs_the_files_a_version_and_a_line(copy: Path) -> None:
    _edit(
        copy,
        "server/mlpserve_server/config.py",
        r"^    max_streams: int",
        "    good_mood: int = _flag(STORE, 3, 'x')\n    max_streams: int",
    )
    said = _check(copy).stderr
    assert (
        "contract/commands.txt is not what the command lines are now:\n    mlpserve-server --good-mood is new" in said
    )
    assert "The command lines have grown since 0.1.0" in said
    assert "set the version in pyproject.toml to 0.1.1 at least" in said
    assert "Write a line that names it: --good-mood." in said
    assert "breaking" not in said
    _edit(copy, "pyproject.toml", r'^version = ".*"', 'version = "0.1.1.dev0"')
    _edit(copy, "CHANGELOG.md", r"^### Added$", "### Added\n\n- `--good-mood`.")
    assert "make contract" in _check(copy).stderr
    accepted = _check(copy, "accept")
    assert accepted.returncode == 0, accepted.stderr
    assert _check(copy).returncode == 0


def test_a_release_makes_the_files_its_promise(copy: Path) -> None:
    run = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "x"]):
        subprocess.run([*run, *words], cwd=copy, check=True)
    assert "there is no tag v0.1.0" in _check(copy, "release", "0.1.0").stderr
    subprocess.run([*run, "tag", "v0.1.0"], cwd=copy, check=True)
    subprocess.run([*run, "tag", "v7.0.0"], cwd=copy, check=True)
    assert "CHANGELOG.md has no section [7.0.0]" in _check(copy, "release", "7.0.0").stderr
    assert _check(copy, "release", "0.1.0").returncode == 0
    commit = subprocess.run([*run, "rev-parse", "HEAD"], cwd=copy, check=True, capture_output=True, text=True).stdout
    assert commit.strip() in (copy / "contract/release.json").read_text()


def test_versions_that_may_follow() -> None:
    assert next_version(Version("0.1.0"), breaking=True) == Version("0.2.0")
    assert next_version(Version("0.1.0"), breaking=False) == Version("0.1.1")
    assert next_version(Version("1.4.2"), breaking=True) == Version("2.0.0")


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        ("Client.predict(k): keyword int", "Client.predict(k): keyword int | None", False),
        ("Client.predict(k): keyword int | None", "Client.predict(k): keyword int", True),
        ("Client.labels: property → str | None", "Client.labels: property → str", False),
        ("Client.labels: property → str", "Client.labels: property → str | None", True),
        ("Client.predict(k): position 1 or keyword int", "Client.predict(k): keyword int", True),
        ("Client.predict: method → str", "Client.predict: async method → str", True),
        ("A.f(k): keyword int\nA.f(k) default: 1", "A.f(k): keyword int\nA.f(k) default: 2", False),
        ("A.f(k): keyword int\nA.f(k) default: 1", "A.f(k): keyword int", True),
        ("A:", "A:\nA.f(k): keyword int", True),
        ("A:", "A:\nA.f(k): keyword int\nA.f(k) default: 1", False),
    ],
)
def test_what_breaks_a_caller_of_the_client(old: str, new: str, breaks: bool) -> None:
    assert any(change.breaks for change in client_api.SUBJECT.changes(old, new)) is breaks


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        ("x --a: a value\nx --a default: 1", "x --a: a value\nx --a default: 2", False),
        ("x --a: a value", "x --a: nothing", True),
        ("x --a: a value", "x --a: a value\nx --a required:", True),
        ("x --a: a value\nx --a required:", "x --a: a value", False),
        ("x --a choice b:\nx --a choice c:", "x --a choice b:", True),
        ("x:", "x:\nx argument FILE: one or more values", True),
    ],
)
def test_what_breaks_a_script(old: str, new: str, breaks: bool) -> None:
    assert any(change.breaks for change in commands.SUBJECT.changes(old, new)) is breaks
