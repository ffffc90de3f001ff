"""Every command and program in docs runs, here or in the test that a comment above it names; README: test_readme.py."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import ServerProcess
from tests.support import documents
from tests.support.claims import missing
from tests.support.documents import ROOT, Block

BLOCKS = [block for page in documents.PAGES for block in documents.blocks(page)]
TUTORIALS = [ROOT / "docs/tutorial/index.md", ROOT / "docs/tutorial/index.zh-CN.md"]
IN_ORDER = [*ROOT.glob("README*.md")]  # test_readme.py
SCREENSHOTS = os.environ.get("MLPSERVE_SCREENSHOTS")  # set by `make screenshots`
ALONE = [
    block
    for block in BLOCKS
    if block.language not in documents.SHOWN and not block.elsewhere and block.page not in (*TUTORIALS, *IN_ORDER)
]


def _parameters(*, slow: bool) -> list[object]:
    return [pytest.param(block, id=block.name) for block in ALONE if (block.note("slow") is not None) == slow]


@pytest.fixture(scope="module")
def reader(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a reader follows the pages, one block after the other."""
    folder = tmp_path_factory.mktemp("reader")
    documents.furnish(folder, store)
    return folder


@pytest.fixture(scope="module")
def address(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server on 127.0.0.1:50051 of the pages."""
    store = shutil.copytree(reader / "store", tmp_path_factory.mktemp("served") / "store")
    with ServerProcess(tmp_path_factory.mktemp("server"), Path(store), "--keep-versions", 2) as process:
        yield process.address


def test_blocks_say_what_they_are() -> None:
    unnamed = [block.name for block in BLOCKS if not block.language]
    assert not unnamed, "a block needs its language; text for what is not run"


@pytest.mark.parametrize("block", [pytest.param(b, id=b.name) for b in BLOCKS if b.elsewhere])
def test_blocks_that_run_elsewhere_are_run_by_the_tests_that_they_name(block: Block) -> None:
    assert missing(block) == []


def test_a_claim_that_does_not_hold_is_found() -> None:
    def claim(code: str, *notes: str) -> list[str]:
        return missing(Block(ROOT / "docs/gpu.md", 1, "bash", code, notes))

    assert claim("make demo", "holds tests/e2e/test_main_path.py::test_demo") == []
    assert "has no test_gone" in claim("make demo", "holds tests/e2e/test_main_path.py::test_gone")[0]
    assert "bench.gpu" in claim("make gpu-check", "holds tests/server/test_device.py::test_devices")[0]
    assert "--epochs" in claim("torchrun --epochs 3", "holds tests/e2e/test_main_path.py::test_demo")[0]
    embedded = "holds tests/examples/test_embedded_server.py::test_pictures_are_classified"
    assert claim("python examples/embedded_server.py store photo.png", embedded) == []
    assert "worker.py" in claim("python examples/worker.py", embedded)[0]
    assert claim("make gpu-check", "untested make gpu-check: it needs a GPU") == []
    assert "give a reason" in claim("make gpu-check", "untested make gpu-check")[0]
    assert "no such command" in claim("make demo", "untested make: why", "untested kubectl: why")[-1]


@pytest.mark.parametrize("block", _parameters(slow=False))
def test_block(block: Block, reader: Path, address: str) -> None:
    documents.run(block, reader, address, timeout=240)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("block", _parameters(slow=True))
def test_slow_block(block: Block, reader: Path, address: str) -> None:
    if block.language == "javascript" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    documents.run(block, reader, address, timeout=1400)


def test_the_tutorial_is_one_program(reader: Path, address: str) -> None:
    """Its Python blocks in order as one program, then its commands; the pictures that it shows are there."""
    found = documents.blocks(TUTORIALS[0])
    program = "\n".join(block.code for block in found if block.language == "python")
    whole = Block(TUTORIALS[0], 1, "python", program, ())
    documents.run(whole, reader, address, timeout=280)
    if SCREENSHOTS:
        for picture in (reader / "pictures").iterdir():
            shutil.copy(picture, TUTORIALS[0].parent / "pictures")
    shown = set(re.findall(r"\]\(pictures/([\w-]+\.png)\)", TUTORIALS[0].read_text()))
    assert shown == {path.name for path in (reader / "pictures").iterdir()}
    assert shown == {path.name for path in (TUTORIALS[0].parent / "pictures").iterdir()}
    for block in found:
        if block.language == "bash":
            documents.run(block, reader, address, timeout=240)


def test_both_tutorials_have_the_same_code() -> None:
    english, chinese = ([b.code for b in documents.blocks(page) if b.language != "text"] for page in TUTORIALS)
    assert english == chinese


def test_errors_name_pages_that_are_there() -> None:
    from mlpserve_client.errors import MlpserveError
    from mlpserve_client.scoring.errors import ScoringError
    from mlpserve_server import errors as server_errors
    from mlpserve_trainer import errors as trainer_errors

    kinds: list[type] = [MlpserveError, ScoringError]
    kinds += [
        kind for module in (server_errors, trainer_errors) for kind in vars(module).values() if isinstance(kind, type)
    ]
    pages = {kind.page for kind in kinds if hasattr(kind, "page")}
    assert len(pages) >= 8
    for page in pages:
        path, _, anchor = page.partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, page
