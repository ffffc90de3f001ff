"""The codec of ModelInfer: what it reads in a request and writes into replies, and headers that it has seen before."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.grpc_calls import pixels
from support.mnist import mnist_images
from tests.support.model_infer import columns_of, infer

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.failures import Failure
from mlpserve_server.calls import BATCH, INTERACTIVE, METHODS, MODEL_INFER, PREDICT, Call
from mlpserve_server.catalog import Catalog, prepare
from mlpserve_server.codecs import known_headers
from mlpserve_server.codecs.base import Request
from mlpserve_server.codecs.model_infer import Form, ModelInferCodec
from mlpserve_server.errors import CallError
from mlpserve_server.models.loading import load
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.store.folder import Store

IMAGES = mnist_images()[:5]


@pytest.fixture(scope="module")
def model(store: Path) -> LoadedModel:
    return load(Store(store).open("mnist"), device="cpu", precision="fp32", max_batch=16, threads=1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_known_headers_change_nothing(model: LoadedModel, data: st.DataObject) -> None:
    """A decoder that has seen requests before says the same as a fresh one, to whatever comes."""
    kinds = st.tuples(
        st.integers(1, 3),
        st.lists(st.sampled_from(["class_ids", "scores", "probabilities"]), unique=True),
        st.sampled_from(["", "1", "2"]),
        st.sampled_from(["", "id"]),
    )
    seasoned = ModelInferCodec(model, 16)
    for count, outputs, version, name in data.draw(st.lists(kinds, min_size=1, max_size=8)):
        payload = bytearray(infer(IMAGES[:count], *outputs, model_version=version, id=name).SerializeToString())
        if data.draw(st.booleans()):
            payload[data.draw(st.integers(0, min(60, len(payload) - 1)))] ^= data.draw(st.integers(1, 255))
        said = []
        for codec in (seasoned, ModelInferCodec(model, 16)):
            try:
                request = codec.decode(bytes(payload))
            except CallError as error:
                said.append((type(error), str(error)))
            else:
                said.append((bytes(request.images), request.size, request.form))  # type: ignore[arg-type]
        assert said[0] == said[1]


def _no_timing(number: int) -> pb.Timing:
    raise AssertionError(f"request {number} did not ask for it")


@pytest.mark.parametrize("outputs", [(), ("scores",), ("probabilities", "class_ids")])
@pytest.mark.parametrize("raw", [True, False])
def test_a_batch_of_singles_is_encoded_as_one_by_one(model: LoadedModel, outputs: tuple[str, ...], raw: bool) -> None:
    codec = ModelInferCodec(model, 16)
    requests = [codec.decode(infer(IMAGES[i : i + 1], *outputs, raw=raw).SerializeToString()) for i in range(5)]
    predictions = model.predict(np.ascontiguousarray(IMAGES).reshape(5, 784)).copy()
    one_by_one = [codec.encode([requests[i]], predictions.rows(i, i + 1), _no_timing)[0] for i in range(5)]
    assert codec.encode(requests, predictions, _no_timing) == one_by_one
    # The second of a form is known by its header, so those that follow share their form.
    if raw:
        assert requests[1].form is requests[2].form
        assert codec.encode(requests[1:], predictions.rows(1, 5), _no_timing) == one_by_one[1:]


def _strange(number: int, size: int = 0) -> bytes:
    """A request whose header nobody else sends; all of a size have the same length."""
    request = infer(IMAGES[:1])
    request.parameters["x"].string_param = f"{number:06}" + "y" * size
    return request.SerializeToString()


def test_headers_that_are_kept_are_bounded(model: LoadedModel) -> None:
    codec = ModelInferCodec(model, 16)
    for number in range(2000):
        codec.decode(_strange(0, number))
    assert len(codec._known) == known_headers.MOST
    assert max(len(known.header) for known in codec._known._all) <= known_headers.LONGEST
    assert sum(map(len, codec._known._by_length.values())) == known_headers.MOST


@pytest.mark.parametrize("same_length", [True, False])
def test_strange_headers_push_out_none_that_is_used(
    model: LoadedModel, same_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's header is kept beside any number that come once, also where those come first."""
    codec = ModelInferCodec(model, 16)
    strange = [_strange(number, 0 if same_length else number % 900) for number in range(3000)]
    for payload in strange[:1000]:
        codec.decode(payload)
    used = _strange(999_999)
    parsed = 0
    decode = codec._decode_message

    def counted(payload: bytes) -> Request[Form]:
        nonlocal parsed
        parsed += payload == used
        return decode(payload)

    monkeypatch.setattr(codec, "_decode_message", counted)
    for payload in strange[1000:]:
        codec.decode(used)
        codec.decode(payload)
    assert parsed == 1
    assert max(map(len, codec._known._by_length.values())) <= known_headers.OF_ONE_LENGTH


def test_both_protocols_share_a_batch(model: LoadedModel) -> None:
    calls = [
        Call(message.SerializeToString(), 0.0, None, METHODS.index(method))
        for message, method in (
            (infer(IMAGES[:2]), MODEL_INFER),
            (pb.PredictRequest(images=pixels(IMAGES[2:3]), timing=True), PREDICT),
            (pb.PredictRequest(images=bytes(100)), PREDICT),
            (infer(IMAGES[3:5], "class_ids"), MODEL_INFER),
        )
    ]
    catalog = Catalog("mnist", keep=0)
    catalog.serve(prepare(model, 16))
    admission = Admission(catalog, Metrics(), max_batch=16, max_queue=16, batch_queue=16, batch_share=0.1)
    failures: list[Failure] = []
    admission.admit(calls, failures)
    batch = admission.take(failures)
    assert batch is not None
    assert [failure.call for failure in failures] == [calls[2]]
    answers = batch.encode(model.predict(batch.images))
    assert [call for call, _ in answers] == batch.whole == [calls[0], calls[1], calls[3]]
    replies = [reply for _, reply in answers if isinstance(reply, bytes)]
    expected = [model.predict(image.reshape(1, 784)).class_ids[0] for image in IMAGES]
    first, third = (oip.ModelInferResponse.FromString(replies[index]) for index in (0, 2))
    second = pb.PredictResponse.FromString(replies[1])
    assert second.timing.batch_images == 5
    found = [*columns_of(first)["class_ids"], *second.class_ids, *columns_of(third)["class_ids"]]
    assert found == expected


@pytest.mark.parametrize(("priority", "traffic"), [(None, None), (0, None), (1, INTERACTIVE), (2, BATCH), (9, BATCH)])
def test_priority_is_a_class(model: LoadedModel, priority: int | None, traffic: int | None) -> None:
    codec, request = ModelInferCodec(model, 16), infer(IMAGES[:1])
    if priority is not None:
        request.parameters["priority"].uint64_param = priority
    for _ in range(2):  # the second time by its kept header
        assert codec.decode(request.SerializeToString()).traffic == traffic


def test_a_priority_that_is_no_whole_number_is_refused(model: LoadedModel) -> None:
    request = infer(IMAGES[:1])
    request.parameters["priority"].string_param = "high"
    with pytest.raises(CallError, match="priority must be a whole number"):
        ModelInferCodec(model, 16).decode(request.SerializeToString())
