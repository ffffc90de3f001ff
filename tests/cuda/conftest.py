"""Every test of this folder needs the emulated GPU; `make test-cuda` runs them."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import json_format
from onnx import helper, numpy_helper
from tests.support.artifacts import seal
from tests.support.cuda_emulator import Emulator, missing

from mlpserve.v1.artifact_pb2 import Manifest


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    if reason := missing():
        pytest.skip(reason)
    return Emulator(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """A store that a test may change."""
    return Path(shutil.copytree(store, tmp_path / "store"))


@pytest.fixture(scope="session")
def older_store(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose version is as older trainers published it: the score is reduced, not gathered."""
    copied = Path(shutil.copytree(store, tmp_path_factory.mktemp("older") / "store"))
    folder = copied / "mnist/1"
    model = onnx.load(folder / "model.onnx")
    kept = [node for node in model.graph.node if node.op_type not in ("ArgMax", "GatherElements", "Squeeze")]
    kept = [node for node in kept if "class_ids" not in node.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["best"], ["class_ids"], to=onnx.TensorProto.INT32))
    model.graph.node.append(helper.make_node("ReduceMax", ["probabilities", "axes"], ["scores"], keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    seal(folder, json_format.Parse((folder / "manifest.json").read_bytes(), Manifest()))
    return copied
