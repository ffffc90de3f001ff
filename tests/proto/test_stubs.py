"""The committed stubs are what the .proto files say, and the packed twin has the same wire form."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpserve.v1.classifier_pb2 import ModelRef, PredictResponse
from mlpserve.v1.packed_pb2 import PackedPredictResponse

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / ".venv-proto/bin/python"


@pytest.mark.skipif(not GENERATOR.exists(), reason="no .venv-proto: run `make test`, which makes it")
def test_committed_stubs_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([GENERATOR, ROOT / "proto/generate.py", tmp_path], check=True, capture_output=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.py*")}
    committed = {
        path.relative_to(ROOT / "proto"): path.read_text()
        for path in (ROOT / "proto/mlpserve").rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }
    assert made.keys() == committed.keys()
    assert [str(name) for name in made if made[name] != committed[name]] == []


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1, width=32)), max_size=20),
    st.lists(st.floats(0, 1, width=32), max_size=20),
)
def test_packed_twin_has_the_same_wire_form(best: list[tuple[int, float]], probabilities: list[float]) -> None:
    plain = PredictResponse(
        model=ModelRef(name="mnist", version=3, digest="ab"),
        top_k=1,
        class_ids=[class_id for class_id, _ in best],
        scores=[score for _, score in best],
        probabilities=probabilities,
    )
    packed = PackedPredictResponse(
        model=plain.model,
        top_k=1,
        class_ids=np.array([class_id for class_id, _ in best], "<u4").tobytes(),
        scores=np.array([score for _, score in best], "<f4").tobytes(),
        probabilities=np.array(probabilities, "<f4").tobytes(),
    )
    assert packed.SerializeToString() == plain.SerializeToString()
    assert PackedPredictResponse.FromString(plain.SerializeToString()) == packed


def test_the_trainer_needs_no_grpc_for_the_manifest() -> None:
    code = "import sys, mlpserve.v1.artifact_pb2; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
