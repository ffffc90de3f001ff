"""Names from outside that become paths, and files that are not what they seem."""

import os
import shutil
import tracemalloc
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st
from support.processes import run
from tests.support.artifacts import seal

from mlpserve import artifact
from mlpserve.v1.artifact_pb2 import ArtifactFile, FileRole, Manifest
from mlpserve_server import names
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ArtifactError, ConfigError, StoreError
from mlpserve_server.store.folder import Store
from mlpserve_trainer.config import is_model_name

SHA256 = "0" * 64
ODD = [
    *("/etc/passwd", "//x", "..", "../x", "a/../../x", "a/..", ".", "./a", "a/.", "", "a//b", "a/", "/", "\0", "a\0b"),
    *("..\\x", "C:\\x", "a\nb", "a\x1b[2Jb", ".lock", "a/.b", "~", "-rf", "a b", "é", "\u202e", "a/b/c/d/e/f/g/h/i"),
    *("manifest.json", "manifest.sha256", "model.sig", "promoted.json", "x" * 200),
]


def _entries(*paths: str, size: int = 1) -> list[tuple[str, str, int]]:
    return [(path, SHA256, size) for path in paths]


@pytest.mark.parametrize("path", ODD)
def test_odd_names_are_refused(path: str) -> None:
    with pytest.raises(ArtifactError, match="the manifest lists"):
        names.check_files("x", _entries("model.onnx", path))


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_names_that_collide_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(ArtifactError, match="twice, or as a file and as a folder"):
        names.check_files("x", _entries(*paths))


def test_what_a_version_may_have_is_bounded() -> None:
    for entries in (
        _entries("a", size=names.LARGEST_FILE + 1),
        _entries("a", "b", "c", size=names.LARGEST_FILE),
        _entries(*(f"f{i}" for i in range(names.MOST_FILES + 1))),
    ):
        with pytest.raises(ArtifactError, match="this server takes up to"):
            names.check_files("x", entries)
    with pytest.raises(ArtifactError, match="has no SHA-256 for 'a'"):
        names.check_files("x", [("a", "0" * 63 + "G", 1)])


@given(st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"([a./\\~-]{1,3}/?){1,4}", fullmatch=True)), max_size=4))
@example(["a/b", "../a"])
def test_what_is_let_through_stays_inside_and_apart(paths: list[str]) -> None:
    try:
        names.check_files("x", _entries(*paths))
    except ArtifactError:
        return
    places = [os.path.normpath("/store/mnist/1/" + path) for path in paths]
    assert all(place.startswith("/store/mnist/1/") for place in places)
    assert len(set(places)) == len(places)


@given(st.one_of(st.text(max_size=70), st.from_regex(r"[a-z0-9._-]{1,66}", fullmatch=True)))
def test_trainer_and_server_agree_on_names_of_models(name: str) -> None:
    assert names.is_model(name) == is_model_name(name)
    if names.is_model(name):
        assert "/" not in name and name not in (".", "..")


@pytest.mark.parametrize(
    ("name", "number"),
    [("1", 1), ("4294967295", 2**32 - 1), ("4294967296", None), ("0", None), ("007", None), ("٣", None), ("1\n", None)],
)
def test_names_of_versions(name: str, number: int | None) -> None:
    assert artifact.version_number(name) == number


def test_a_folder_with_an_odd_number_is_no_version(store: Path, tmp_path: Path) -> None:
    """It does not fit the contract, and a listing must not end in an error for it."""
    own = Path(shutil.copytree(store, tmp_path / "store"))
    for name in ("٣", "007", "4294967296", "99999999999999999999"):
        (own / "mnist" / name).mkdir()
    assert Store(own).versions("mnist") == [1]
    assert Store(own).open("mnist").manifest.version == 1


@pytest.mark.parametrize("model", ["../mnist", "..", "/etc", "mnist/1", "", "a\0b", ".hidden", "\x1b[2J"])
def test_a_model_is_not_a_path(model: str, store: Path) -> None:
    for act in (
        lambda: Store(store).open(model),
        lambda: Store(store).open(model, 1),
        lambda: Store(store).versions(model),
        lambda: Store(store).read_promotion(model),
    ):
        with pytest.raises(StoreError, match="cannot be the name of a model"):
            act()
    with pytest.raises(ConfigError, match="cannot be the name of a model"):
        ServerConfig(store=store, model=model)
    if "\0" not in model:
        for command in (["list", model], ["promote", model, 1], ["verify", model]):
            result = run("mlpserve-store", "--store", store, *command)
            assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
            assert "cannot be the name of a model" in result.stderr and "\x1b" not in result.stderr


@pytest.fixture
def version(store: Path, tmp_path: Path) -> Path:
    """The published version in a store of its own: the version's folder."""
    return Path(shutil.copytree(store, tmp_path / "store")) / "mnist/1"


def _replace(path: Path, kind: str) -> None:
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "link":
            path.symlink_to("/etc/hostname")
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder", "huge"])
@pytest.mark.parametrize("name", ["model.onnx", "pictures/curves.png", "manifest.json", "manifest.sha256"])
def test_what_is_no_regular_file_of_its_size_is_not_read(kind: str, name: str, version: Path) -> None:
    _replace(version / name, kind)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=name.replace(".", r"\.") if "/" in name else "manifest|model"):
            opened = Store(version.parents[1]).open("mnist")
            opened.verify()
        with pytest.raises(ArtifactError):
            Store(version.parents[1]).open("mnist", 1).read(FileRole.FILE_ROLE_MODEL_FP32)
            opened.content(next(entry for entry in opened.manifest.files if entry.path == name))
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_a_server_passes_over_a_version_with_a_device_in_it(version: Path, tmp_path: Path) -> None:
    from support.processes import ServerProcess
    from tests.support.artifacts import publish_rolled

    publish_rolled(version, version.parents[1], 2)
    _replace(version.with_name("2") / "golden.binpb", "pipe")
    with ServerProcess(tmp_path, version.parents[1]) as process:
        assert "golden.binpb is not a regular file" in process.log
        assert "version 2 is refused, version 1 is served instead" in process.log


def test_links_may_stay_inside(version: Path) -> None:
    (version / "model.onnx").rename(version / "moved")
    (version / "model.onnx").symlink_to("moved")
    Store(version.parents[1]).open("mnist").verify()
    (version / "pictures").rename(version.parent / "elsewhere")
    (version / "pictures").symlink_to("../elsewhere")
    with pytest.raises(ArtifactError, match="leads out of the version"):
        Store(version.parents[1]).open("mnist").verify()


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "huge", "folder", "deep", "true"])
def test_a_promotion_that_is_none_is_refused_and_mended(kind: str, version: Path) -> None:
    path = version.parent / "promoted.json"
    path.write_text({"deep": "[" * 60_000, "true": '{"version": true, "previous": []}'}.get(kind, ""))
    if kind not in ("deep", "true"):
        _replace(path, kind)
    for command in ("list", "rollback"):
        result = run("mlpserve-store", "--store", version.parents[1], command, "mnist", timeout=60)
        assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
        assert "promoted.json cannot be read" in result.stderr
    if kind != "folder":
        assert run("mlpserve-store", "--store", version.parents[1], "promote", "mnist", 1).returncode == 0
        assert path.is_file() and not path.is_symlink()


def test_the_lock_is_not_written_through_a_link(version: Path, tmp_path: Path) -> None:
    """Otherwise whoever may write to the store could have any file of the publisher's emptied."""
    precious = tmp_path / "authorized_keys"
    precious.write_text("precious")
    lock = version.parent / ".lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(precious)
    result = run("mlpserve-store", "--store", version.parents[1], "promote", "mnist", 1)
    assert (result.returncode, "cannot be written" in result.stderr) == (1, True)

    from mlpserve_trainer.errors import PublishError
    from mlpserve_trainer.publishing.publish import publish

    with pytest.raises(PublishError):
        publish(version.parents[1], "mnist", Manifest(), {})
    assert precious.read_text() == "precious"


def test_compare_reads_only_what_lies_in_the_version(version: Path, tmp_path: Path) -> None:
    from mlpserve_trainer.compare import read_inside
    from mlpserve_trainer.errors import ConfigError as TrainerConfigError

    (tmp_path / "secret").write_text("x")
    for name in ("../../../secret", str(tmp_path / "secret"), "\0"):
        with pytest.raises(TrainerConfigError, match=r"outside|cannot be"):
            read_inside(version, name, 10)
    for kind in ("pipe", "device", "huge"):
        _replace(version / "model.onnx", kind)
        with pytest.raises(TrainerConfigError, match=r"does not match its manifest|outside"):
            read_inside(version, "model.onnx", 1000)
    manifest = json_format.Parse((version / "manifest.json").read_bytes(), Manifest())
    manifest.files[0].path = "../../../secret"
    assert manifest.files[0].role == FileRole.FILE_ROLE_MODEL_FP32
    del manifest.files[1:]
    seal(version, manifest)
    result = run("mlpserve-train", "compare", version, version)
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    assert "is outside the version" in result.stderr


def test_a_manifest_with_an_odd_name_is_listed_as_unreadable(version: Path) -> None:
    manifest = json_format.Parse((version / "manifest.json").read_bytes(), Manifest())
    manifest.files.append(ArtifactFile(path="../../x", sha256=SHA256, size_bytes=1))
    (version.parents[1] / "x").write_bytes(b"x")
    seal(version, manifest)
    result = run("mlpserve-store", "--store", version.parents[1], "list", "mnist")
    assert "unreadable: " in result.stdout and "'../../x', which may lie outside the artifact" in result.stdout
