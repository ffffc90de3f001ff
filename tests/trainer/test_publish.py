"""Publishing is all or nothing, whatever happens in the middle."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from mlpserve.v1.artifact_pb2 import FileRole, ImageSpec, Manifest
from mlpserve_server.errors import StoreError
from mlpserve_server.store.folder import Store
from mlpserve_trainer.errors import PublishError
from mlpserve_trainer.publishing.publish import check_store, latest, publish, versions

FILES = {f"pictures/{n}.png": (FileRole.FILE_ROLE_PICTURE, bytes([n]) * 100_000) for n in range(12)}


def _manifest() -> Manifest:
    return Manifest(image=ImageSpec(rows=2, cols=2), labels=["a", "b"])


def test_versions_count_up_and_verify(tmp_path: Path) -> None:
    assert [publish(tmp_path, "m", _manifest(), FILES).name for _ in range(3)] == ["1", "2", "3"]
    version = Store(tmp_path).open("m")
    assert version.manifest.version == 3
    version.verify()
    assert (tmp_path / "m" / "3").stat().st_mode & 0o777 == 0o755


def test_checksum_file_is_in_the_form_of_sha256sum(tmp_path: Path) -> None:
    folder = publish(tmp_path, "m", _manifest(), FILES)
    subprocess.run(["sha256sum", "--check", "--status", "manifest.sha256"], cwd=folder, check=True)


PUBLISHER = """
import sys
from pathlib import Path
from tests.trainer.test_publish import FILES, _manifest
from mlpserve_trainer.publishing.publish import publish
while True:
    publish(Path(sys.argv[1]), "m", _manifest(), FILES)
"""


def test_kill_9_leaves_only_whole_versions(tmp_path: Path) -> None:
    generator = random.Random(0)
    root = Path(__file__).resolve().parents[2]
    unfinished = 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", PUBLISHER, tmp_path], cwd=root) as process:
            wait_until(lambda: list(tmp_path.glob("m/.publishing-*")), "a publish is under way", every=0.001)
            time.sleep(generator.uniform(0, 0.05))
            process.kill()
        unfinished += len(list(tmp_path.glob("m/.publishing-*")))
        for number in versions(tmp_path / "m"):
            Store(tmp_path).open("m", number).verify()
    assert unfinished, "no kill hit the middle of a publish: the test proves nothing"
    last = max(versions(tmp_path / "m"), default=0)
    assert publish(tmp_path, "m", _manifest(), FILES).name == str(last + 1)
    assert not list(tmp_path.glob("m/.publishing-*")), "leftovers are removed by the next publisher"


def test_publishers_at_the_same_time_get_different_versions(tmp_path: Path) -> None:
    code = PUBLISHER.replace("while True", "for _ in range(5)")
    root = Path(__file__).resolve().parents[2]
    processes = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=root) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert versions(tmp_path / "m") == list(range(1, 11))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_publishes_nothing_and_cleans_up(small_disk: Path) -> None:
    with pytest.raises(PublishError, match=r"the disk is full\. No version was published"):
        publish(small_disk, "m", _manifest(), FILES)
    assert [path.name for path in (small_disk / "m").iterdir()] == [".lock"]
    small = dict(list(FILES.items())[:2])
    assert publish(small_disk, "m", _manifest(), small).name == "1"


def test_a_store_that_cannot_be_written_fails_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match=r"--store .*file cannot be written: Not a directory"):
        check_store(tmp_path / "file", "m")


@pytest.mark.parametrize("stranger", ["20240101120000", "9999999999", "00000001", "\u0663", "v2", "1.0"])
def test_folders_that_are_no_versions_are_nobodys_business(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "m" / stranger).mkdir(parents=True)
    check_store(tmp_path, "m")
    assert publish(tmp_path, "m", _manifest(), FILES) == tmp_path / "m/1"
    assert Store(tmp_path).versions("m") == versions(tmp_path / "m") == [1]


def test_a_store_without_a_number_left_fails_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "m" / str(2**32 - 1)).mkdir(parents=True)
    with pytest.raises(PublishError, match="4294967295 has the last number that there is; remove that folder"):
        check_store(tmp_path, "m")


def test_an_empty_folder_is_no_version_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    assert latest(tmp_path, "m") is None
    assert publish(tmp_path, "m", _manifest(), FILES) == tmp_path / "m/2"
    (tmp_path / "m" / "7").mkdir()
    assert latest(tmp_path, "m") == tmp_path / "m/2"


def test_a_version_with_zeros_in_front_is_named(tmp_path: Path) -> None:
    (tmp_path / "m" / "00000001").mkdir(parents=True)
    with pytest.raises(
        StoreError, match="no versions are 00000001: a version is a number from 1 without zeros in front"
    ):
        Store(tmp_path).open("m")
