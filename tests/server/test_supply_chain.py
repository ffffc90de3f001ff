"""What is published and what may be loaded: signatures, and ONNX files that ask for more than standard operators."""

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
from google.protobuf import json_format
from onnx import helper
from support.grpc_calls import stub
from support.mnist import write_class_folders
from support.processes import ServerProcess, run
from tests.support.artifacts import MODELS, publish_rolled, seal

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve_server.errors import ArtifactError
from mlpserve_server.models import graph_check


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """An elliptic-curve key pair as PEM files: (private, public)."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private]
    subprocess.run(openssl, check=True, capture_output=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("model_signing", reason="model-signing is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("keys")
    key_pair(folder, "ours")
    key_pair(folder, "theirs")
    return folder


@pytest.fixture(scope="module")
def signed_store(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("signed")
    digits = write_class_folders(tmp_path_factory.mktemp("digits"), per_class=20)
    flags = ("--data", digits, "--model", "digits", "--epochs", 1, "--validation", 0.2, "--sign-key", keys / "ours.key")
    result = run("mlpserve-train", "--store", store, *flags)
    assert result.returncode == 0, result.stderr
    return store


def _start(store: Path, key: Path, *flags: object) -> str:
    """Start a server that must refuse; what it says."""
    command = ("mlpserve-server", "--store", store, "--model", "digits", "--listen", "127.0.0.1:0")
    result = run(*command, "--require-signature", key, *flags)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_signed_version_is_served_to_those_who_trust_the_key(signed_store: Path, keys: Path, tmp_path: Path) -> None:
    flags = ("--model", "digits", "--require-signature", keys / "ours.pub")
    with ServerProcess(tmp_path, signed_store, *flags) as process:
        assert process.process.poll() is None
    assert "its signature is not one by" in _start(signed_store, keys / "theirs.pub")
    assert "expected a PEM public key" in _start(signed_store, keys / "missing.pub")


@pytest.mark.parametrize("damage", ["unsigned", "added file", "resealed"])
def test_what_was_signed_must_be_what_is_there(damage: str, signed_store: Path, keys: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(signed_store, tmp_path / "store"))
    folder = store / "digits/1"
    if damage == "unsigned":
        (folder / "model.sig").unlink()
        assert "is not signed; publish it with" in _start(store, keys / "ours.pub")
        return
    if damage == "added file":
        (folder / "extra.onnx").write_bytes(b"x")
    else:
        manifest = json_format.Parse((folder / "manifest.json").read_bytes(), Manifest())
        manifest.training.seed += 1
        seal(folder, manifest)
    assert "its signature is not one by" in _start(store, keys / "ours.pub")


def test_a_running_server_refuses_unsigned_versions(signed_store: Path, keys: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(signed_store, tmp_path / "store"))
    flags = ("--model", "digits", "--poll", 0.1, "--require-signature", keys / "ours.pub")
    with ServerProcess(tmp_path, store, *flags) as process:
        publish_rolled(store / "digits/1", store, 2)  # with the signature of version 1
        process.wait_for_log("version 2 is refused")
        assert "its signature is not one by" in process.log
        unsigned = publish_rolled(store / "digits/1", tmp_path / "elsewhere", 3)
        (unsigned / "model.sig").unlink()
        unsigned.rename(store / "digits/3")
        process.wait_for_log("version 3 is refused")
        assert "is not signed; publish it with" in process.log
        with stub(process.address) as caller:
            assert caller.GetModel(pb.GetModelRequest(), timeout=10).model.version == 1


def test_a_key_that_cannot_sign_is_refused_before_the_training(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.key").write_text("no key")
    for key in (tmp_path / "bad.key", tmp_path / "missing.key"):
        result = run("mlpserve-train", "--store", tmp_path / "store", "--sign-key", key)
        assert (result.returncode, "expected a PEM private key" in result.stderr) == (1, True), result.stderr
        assert "Epoch" not in result.stdout


def _custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[0].domain = "com.example"


def _hidden_operator(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Run", [], ["y"], domain="com.example")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def _deep(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "leaf", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=inner)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def _external_in_attribute(model: onnx.ModelProto) -> None:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))


def _function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("local", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_custom_operator, "only standard ONNX operators"),
        (_hidden_operator, "only standard ONNX operators"),
        (_deep, "nested more than"),
        (_external, "lies in another file"),
        (_external_in_attribute, "lies in another file"),
        (_function, "defines functions"),
    ],
)
def test_an_onnx_file_that_asks_for_more_is_not_parsed(change: object, words: str, store: Path) -> None:
    for name in MODELS:
        path = store / "mnist/1" / name
        graph_check.check(path.read_bytes(), path)
        model = onnx.load(path)
        change(model)  # type: ignore[operator]
        with pytest.raises(ArtifactError, match=words):
            graph_check.check(model.SerializeToString(), path)
