"""An image gets the same bits whoever shares its batch. tests/guarantees/test_same_bits.py asks for a million."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from support.grpc_calls import stub
from support.processes import DEVICE, ServerProcess
from tests.support.same_bits import COLUMNS, Alone, Callers, alone, pool, served_file, session

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve.v1.classifier_pb2 import GetModelRequest
from mlpserve_server.models.loading import load
from mlpserve_server.store.folder import Store
from mlpserve_trainer.export.onnx_graph import to_onnx
from mlpserve_trainer.export.quantize import fold, fold_int8
from mlpserve_trainer.networks.mlp import MLP, Classifier

ON_CPU = pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU the sum of a row depends on the batch size")


@pytest.fixture(scope="module", params=["fp32", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(store: Path, precision: str) -> Alone:
    return alone(served_file(store, precision), pool(1500))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_batch_size_and_position(store: Path, precision: str, expected: Alone, threads: int) -> None:
    version = Store(store).open("mnist")
    model = load(version, device="cpu", precision=precision, max_batch=256, threads=threads)
    rng = np.random.default_rng(threads)
    wrong = {}
    for count in (*range(1, 257), 257, 300, 511, 600):
        rows = rng.integers(0, len(expected.images), count)
        wrong[count] = expected.wrong(rows, tuple(model.predict(expected.images[rows])))
    assert {count: found for count, found in wrong.items() if found} == {}


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_other_networks(activation: str) -> None:
    """Sizes that fill no register: what a kernel does with the rest of a row must not depend on the row's place."""
    rng = np.random.default_rng(0)
    for hidden, classes, seed in (((37,), 3, 1), ((64, 101), 10, 2), ((300, 16), 26, 3)):
        torch.manual_seed(seed)
        network = Classifier(MLP(144, hidden, classes, activation), 0.2, 0.3).requires_grad_(False)
        images = pool(200, 144)
        for folded, threads in product((fold(network), fold_int8(network, images)), (1, 2)):
            content = to_onnx(folded).SerializeToString()
            expected, many = alone(content, images), session(content, threads)
            for count in (2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 17, 31, 33, 64, 100, 255, 256):
                rows = rng.integers(0, len(images), count)
                found = tuple(many.run(list(COLUMNS), {"images": images[rows]}))
                assert expected.wrong(rows, found) == 0, (hidden, threads, count)


@ON_CPU
def test_served_among_random_neighbours(server: ServerProcess, store: Path) -> None:
    with stub(server.address) as caller:
        served = caller.GetModel(GetModelRequest(), timeout=10).serving.precision
    precision = "int8" if served == Precision.PRECISION_INT8 else "fp32"
    callers = Callers(server.address, alone(served_file(store, precision), pool(500)), 4000, largest=300).run()
    assert (callers.rows, callers.wrong) == (4000, 0)
    assert callers.mixed > 0, "no request shared its batch"


def test_a_single_bit_is_seen(expected: Alone) -> None:
    rows = np.array([5, 0, 7])
    found = tuple(column[rows].copy() for column in expected.answers)
    assert expected.wrong(rows, found) == 0
    found[2].view(np.uint32)[1, 9] ^= 1
    assert expected.wrong(rows, found) == 1
