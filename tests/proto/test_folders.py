"""The one walk over folders, and what files and folders are called."""

import os
from pathlib import Path

import pytest

from mlpserve.files import folders, kinds
from mlpserve.files.folders import DANGLING, HIDDEN, LOOP, SPECIAL, SYSTEM, TEST, TRAIN, VALIDATION
from mlpserve.files.kinds import Kind


def _write(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_links_are_followed_but_not_round_and_round(tmp_path: Path) -> None:
    _write(tmp_path / "real/b/1.png")
    _write(tmp_path / "in/a/2.png")
    (tmp_path / "in/b").symlink_to(tmp_path / "real/b")
    (tmp_path / "in/a/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "in/itself").symlink_to(tmp_path / "in/itself")
    os.mkfifo(tmp_path / "in/pipe")
    found = folders.walk(str(tmp_path / "in"))
    assert found.files == ["a/2.png", "b/1.png"]
    assert found.passed_over == {"a/up": LOOP, "itself": DANGLING, "nowhere": DANGLING, "pipe": SPECIAL}


def test_folders_that_all_link_to_one_another_end(tmp_path: Path) -> None:
    for one in range(8):
        _write(tmp_path / f"{one}/x.png")
        for other in range(8):
            (tmp_path / f"{one}/to{other}").symlink_to(tmp_path / str(other))
    found = folders.walk(str(tmp_path))
    assert {path for path in found.files if path.count("/") == 1} == {f"{one}/x.png" for one in range(8)}
    assert len(found.files) <= 8 * (folders.MOST_VISITS + 1)


def test_a_mounted_config_map_has_each_file_once(tmp_path: Path) -> None:
    """As Kubernetes mounts it: files are links into a hidden folder that is a link itself."""
    for name in "abc":
        _write(tmp_path / "..2026_11_27/" / f"{name}.png")
        (tmp_path / f"{name}.png").symlink_to(f"..data/{name}.png")
    (tmp_path / "..data").symlink_to("..2026_11_27")
    found = folders.walk(str(tmp_path))
    assert found.files == ["a.png", "b.png", "c.png"]
    assert set(found.passed_over.values()) == {HIDDEN}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, HIDDEN) for name in (".Trash", ".thumbnails", ".ipynb_checkpoints", "._x.png", ".DS_Store")),
        *((name, SYSTEM) for name in ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")),
    ],
)
def test_what_systems_leave_is_passed_over(tmp_path: Path, name: str, why: str) -> None:
    _write(tmp_path / "cat" / "1.png")
    if "." in name[1:] and "BIN" not in name:
        _write(tmp_path / "cat" / name)
        expected = f"cat/{name}"
    else:
        _write(tmp_path / name / "2.png")
        expected = name
    found = folders.walk(str(tmp_path))
    assert (found.files, found.passed_over) == (["cat/1.png"], {expected: why})
    assert folders.why_not_path(f"{name}/2.png") == why
    assert folders.why_not_path("cat/1.png") is None


def test_a_very_deep_folder(tmp_path: Path) -> None:
    """Deeper than Python may call itself."""
    whole = tmp_path.joinpath(*["d"] * 1200)
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").write_bytes(b"x")
        assert len(folders.walk(str(tmp_path)).files) == 1
    finally:
        os.chdir(before)
        (whole / "x.png").unlink(missing_ok=True)
        os.removedirs(whole)  # pytest's own way recurses


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(
            (name, TRAIN)
            for name in ("train", "Training", "TRAIN", "seg_train", "training-set", "train_images", "train1")
        ),
        *((name, VALIDATION) for name in ("val", "valid", "Validation", "dev", "val_data")),
        *((name, TEST) for name in ("test", "Testing", "seg_test", "test-set", "evaluation")),
        *((name, None) for name in ("trains", "test tube", "cat", "7", "train test", "seg_pred", "training wheels")),
    ],
)
def test_folders_of_splits(name: str, split: str | None) -> None:
    assert folders.split_of(name) == split


def test_files_of_splits_and_partitions() -> None:
    assert folders.split_of_file("validation-00000-of-00001") == VALIDATION
    assert folders.split_of_file("Test_images") == TEST
    assert folders.split_of_file("digits-test") is None
    assert folders.partitions("a/label=my%20cat/split=test/x.parquet") == {"label": "my cat", "split": "test"}
    assert folders.is_bookkeeping("_delta_log/x.parquet")
    assert not folders.is_bookkeeping("_part=1/x.parquet")


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.PNG", b"", Kind.PICTURE),
        ("a.HEIC", b"", Kind.PICTURE),
        ("a.jfif", b"", Kind.PICTURE),
        ("scan", b"\x89PNG\r\n\x1a\n", Kind.PICTURE),
        ("scan.001", b"P5\n28 28\n255\n", Kind.PICTURE),
        ("x.Npy", b"", Kind.ARRAYS),
        ("x.PARQUET", b"", Kind.TABLE),
        ("x.TAR.GZ", b"", Kind.ARCHIVE),
        ("t10k-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x01", Kind.IDX_IMAGES),
        ("labels.ubyte", b"\0\0\x08\x01\0\0\0\x01", Kind.IDX_LABELS),
        ("notes", b"BMW and other cars", Kind.OTHER),
        ("notes.txt", b"\x89PNG\r\n\x1a\n", Kind.OTHER),
        ("empty", b"", Kind.OTHER),
    ],
)
def test_what_files_hold(name: str, head: bytes, kind: Kind) -> None:
    assert kinds.kind_of(name, lambda: head) is kind
