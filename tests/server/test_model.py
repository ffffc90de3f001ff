from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import mnist_images

from mlpserve.v1.classifier_pb2 import PredictRequest, PredictResponse, Timing
from mlpserve_server.codecs.base import Request
from mlpserve_server.codecs.predict import Form, PredictCodec
from mlpserve_server.errors import CallError
from mlpserve_server.models import loading
from mlpserve_server.models.loading import load
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.store.folder import Store

Loaders = dict[str, LoadedModel]


@pytest.fixture(scope="module")
def loaded(store: Path) -> Loaders:
    version = Store(store).open("mnist")
    return {name: load(version, device="cpu", precision=name, max_batch=64, threads=1) for name in ("fp32", "int8")}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 200])
def test_answers_do_not_depend_on_cutting(loaded: Loaders, precision: str, count: int) -> None:
    model = loaded[precision]
    images = mnist_images()[:count].reshape(count, -1)
    predictions = model.predict(images).copy()
    one_by_one = [model.predict(images[row : row + 1]).probabilities.copy() for row in range(count)]
    assert predictions.probabilities.shape == (count, 10)
    assert np.allclose(predictions.probabilities, np.concatenate(one_by_one), atol=1e-5)
    assert np.array_equal(predictions.class_ids, predictions.probabilities.argmax(axis=1))


def test_auto_serves_the_precision_that_is_clearly_faster(loaded: Loaders, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [loaded["fp32"], loaded["int8"]]
    clock = iter([0.0, 1.0, 0.0, 0.95] * 2 * 15)
    monkeypatch.setattr(loading.time, "perf_counter", lambda: next(clock))
    assert loading._faster(pair) is pair[0], "5 % are noise"
    clock = iter([0.0, 1.0, 0.0, 0.8, 0.0, 1.0, 0.0, 1.0] * 15)
    monkeypatch.setattr(loading.time, "perf_counter", lambda: next(clock))
    assert loading._faster(pair) is pair[1]
    clock = iter([0.0, 1.0, 0.0, 0.8, 0.0, 1.0, 0.0, 1.2] * 15)
    monkeypatch.setattr(loading.time, "perf_counter", lambda: next(clock))
    assert loading._faster(pair) is pair[0], "slower at the other size"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 10), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_replies_are_cut_from_their_own_rows(store: Path, requests: list[tuple[int, int, bool, bool]]) -> None:
    """Merge and split: whatever requests share a batch, each reply holds its own rows, by the short way or the long."""
    model = _cached(store)
    total = sum(count for count, *_ in requests)
    images = mnist_images()[:total].reshape(total, -1)
    messages, start = [], 0
    for count, top_k, probabilities, timing in requests:
        part = images[start : start + count].tobytes()
        message = PredictRequest(images=part, top_k=top_k, probabilities=probabilities, timing=timing)
        messages.append(message.SerializeToString())
        start += count
    codec = PredictCodec(model, 100)
    decoded = [codec.decode(message) for message in messages]
    assembled = np.frombuffer(b"".join(request.images for request in decoded), np.uint8).reshape(-1, model.pixels)
    assert np.array_equal(assembled, images)
    predictions = model.predict(assembled)
    replies = codec.encode(decoded, predictions, lambda number: Timing(batch_images=100 + number))
    start = 0
    for number, ((count, top_k, probabilities, timing), reply) in enumerate(zip(requests, replies, strict=True)):
        answer = PredictResponse.FromString(reply)
        rows = predictions.probabilities[start : start + count]
        best = np.argsort(-rows, axis=1, kind="stable")[:, : max(top_k, 1)]
        assert answer.top_k == max(top_k, 1)
        assert answer.model == model.ref
        assert list(answer.class_ids) == best.ravel().tolist()
        assert list(answer.scores) == np.take_along_axis(rows, best, axis=1).ravel().tolist()
        assert list(answer.probabilities) == (rows.ravel().tolist() if probabilities else [])
        assert answer.HasField("timing") == timing
        assert answer.timing.batch_images == (100 + number if timing else 0)
        start += count


@given(st.binary(max_size=40), st.integers(0, 3), st.integers(0, 20))
def test_short_and_long_way_of_decoding_agree(store: Path, tail: bytes, images: int, cut: int) -> None:
    """Any bytes: what the short way takes, protobuf parses to the same; all else is protobuf's to judge."""
    model = _cached(store)
    plain = PredictRequest(images=bytes(range(256)) * 3 * images + bytes(16 * images)).SerializeToString()
    payload = plain[: len(plain) - cut] + tail
    short, long = (
        _outcome(decode, payload) for decode in (PredictCodec(model, 2).decode, PredictCodec(model, 2)._decode_message)
    )
    assert short == long


def _outcome(decode: Callable[[bytes], Request[Form]], payload: bytes) -> object:
    try:
        request = decode(payload)
    except CallError as error:
        return type(error), str(error)
    return bytes(request.images), request.size, request.form


_models: dict[Path, LoadedModel] = {}


def _cached(store: Path) -> LoadedModel:
    if store not in _models:
        _models[store] = load(Store(store).open("mnist"), device="cpu", precision="fp32", max_batch=256, threads=1)
    return _models[store]
