"""Servers that lie, and newer ones: what is returned is what the contract allows, or one error says what is wrong."""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import run
from tests.client.test_client import Call, _async, _sync
from tests.support import liar
from tests.support.liar import Liar
from tests.support.mutate import mutated
from tests.support.pictures import png

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import ImageSpec
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_client import AsyncClient, Client, InvalidResponseError, MlpserveError, Predictions, ServerError
from mlpserve_client.messages.encoding import Options, check_images, part_size
from mlpserve_client.messages.responses import Responses
from mlpserve_client.scoring import Endpoint, score

IMAGES = np.random.default_rng(5).integers(0, 256, (120, 2, 2)).astype(np.uint8)
ALL = {"top_k": 2, "probabilities": True, "timing": True}


@pytest.fixture(params=[_sync, _async], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    function: Call = request.param
    return function


def _put(response: PackedPredictResponse, column: str, value: float, kind: str = "<f4", at: int = 1) -> None:
    values = np.frombuffer(getattr(response, column), kind).copy()
    values[at] = value
    setattr(response, column, values.tobytes())


def _cut(column: str, count: int) -> Callable[[PackedPredictResponse], None]:
    return lambda response: setattr(response, column, getattr(response, column)[:count])


def _double(response: PackedPredictResponse) -> None:
    for column in ("class_ids", "scores", "probabilities"):
        setattr(response, column, 2 * getattr(response, column))


def _number(column: str, value: float, kind: str = "<f4") -> Callable[[PackedPredictResponse], None]:
    return lambda response: _put(response, column, value, kind)


def _other_classes(response: PackedPredictResponse) -> None:
    response.class_ids = ((np.frombuffer(response.class_ids, "<u4") + 1) % 3).astype("<u4").tobytes()


LIES: list[tuple[str, Callable[[PackedPredictResponse], Any], dict[str, Any]]] = [
    ("class_ids of 4 bytes; expected 480", _cut("class_ids", 4), {}),
    ("class_ids of 479 bytes", _cut("class_ids", -1), {}),
    ("class_ids of 0 bytes", _cut("class_ids", 0), {}),
    ("class_ids of 960 bytes", _double, {}),
    ("scores of 479 bytes", _cut("scores", -1), {}),
    ("scores of 0 bytes", _cut("scores", 0), {}),
    ("probabilities of 1,436 bytes; expected 1,440", _cut("probabilities", -4), ALL),
    ("probabilities of 0 bytes", _cut("probabilities", 0), ALL),
    ("class 99 for image 1; expected 0 to 2", _number("class_ids", 99, "<u4"), {}),
    ("class 3 for image 0; expected 0 to 2", _number("class_ids", 3, "<u4"), ALL),
    ("class 4294967295 for image 1", _number("class_ids", 2**32 - 1, "<u4"), {}),
    ("the score nan for image 1", _number("scores", math.nan), {}),
    ("the score inf for image 1", _number("scores", math.inf), {}),
    ("the score -inf for image 1", _number("scores", -math.inf), {}),
    ("the score -0.1 for image 1; expected 0 to 1", _number("scores", -0.1), {}),
    ("the score 1.5 for image 1", _number("scores", 1.5), {}),
    ("the probability nan for image 0", _number("probabilities", math.nan), ALL),
    ("the probability 2 for image 0", _number("probabilities", 2), ALL),
    ("probabilities that sum to", lambda r: _put(r, "probabilities", 0, at=0), ALL),
    ("scores that rise", lambda r: setattr(r, "scores", np.frombuffer(r.scores, "<f4")[::-1].tobytes()), {"top_k": 3}),
    ("the same class twice", lambda r: setattr(r, "class_ids", bytes(len(r.class_ids))), {"top_k": 2}),
    ("not the probabilities", _other_classes, ALL),
    ("1 classes for each image; expected top_k 2", lambda r: setattr(r, "top_k", 1), ALL),
    ("0 classes for each image; expected top_k 1", lambda r: r.ClearField("top_k"), {}),
    ("a timing of nan s", lambda r: setattr(r.timing, "run_seconds", math.nan), ALL),
    ("a timing of -1 s", lambda r: setattr(r.timing, "queue_seconds", -1), ALL),
    ("the model '' version 0", lambda r: r.ClearField("model"), {}),
    ("the model 'm' version 0", lambda r: setattr(r.model, "version", 0), {}),
    ("with digest 'ABAB", lambda r: setattr(r.model, "digest", "AB" * 32), {}),
    ("it is of 'other'; expected 'm'", lambda r: setattr(r.model, "name", "other"), {}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "lie", "options"), LIES, ids=[words for words, _, _ in LIES])
def test_a_lie_is_an_error(call: Call, words: str, lie: Callable[[Any], Any], options: dict[str, Any]) -> None:
    with Liar() as server:
        server.lie(lie)
        with pytest.raises(InvalidResponseError) as caught:
            call(server.address, "predict", IMAGES, **options)
    text = str(caught.value)
    assert words in text
    assert all(part in text for part in (server.address, "; expected ", "mlpserve doctor"))


@pytest.mark.parametrize(
    ("pinned", "change"),
    [
        ({"version": 3}, lambda ref: setattr(ref, "version", 4)),
        ({"version": 3}, lambda ref: setattr(ref, "digest", "cd" * 32)),
        ({"model": "m"}, lambda ref: setattr(ref, "name", "other")),
    ],
    ids=["version", "digest", "name"],
)
def test_another_model_than_the_pinned_one(call: Call, pinned: dict[str, Any], change: Callable[[Any], Any]) -> None:
    with Liar() as server:
        server.lie(lambda response: change(response.model))
        with pytest.raises(InvalidResponseError, match="expected"):
            call(server.address, "predict", IMAGES, options=pinned)
        server.misdescribe(lambda info: change(info.model))
        if "digest" not in str(change.__code__.co_consts):
            with pytest.raises(InvalidResponseError, match="which the call named"):
                call(server.address, "get_model", options=pinned)


def _took_over(response: PackedPredictResponse) -> None:
    """Version 4 answers, which knows one class more."""
    response.model.version = 4
    _put(response, "class_ids", 3, "<u4")


def test_a_version_that_took_over_is_believed(call: Call) -> None:
    """Without a pin another version may answer than was described."""
    with Liar() as server:
        server.lie(lambda response: setattr(response.model, "version", 4))
        assert call(server.address, "predict", IMAGES).model.version == 4
        assert server.asked.count("GetModel") == 1, "what fits is not asked about again"
        server.lie(_took_over)
        with pytest.raises(InvalidResponseError, match="class 3 for image 1; expected 0 to 2"):
            call(server.address, "predict", IMAGES)


def test_more_classes_after_a_reload() -> None:
    with Liar() as server:

        def reload() -> None:
            server.lie(_took_over)
            server.misdescribe(lambda info: (setattr(info.model, "version", 4), info.manifest.labels.append("d")))

        async def asynchronously() -> Predictions:
            async with AsyncClient(server.address) as client:
                assert (await client.predict(IMAGES)).model.version == 3
                reload()
                return await client.predict(IMAGES)

        honest = server.info, server.predict
        with Client(server.address) as client:
            assert client.predict(IMAGES).model.version == 3
            reload()
            assert client.predict(IMAGES).class_ids[1] == 3
        server.info, server.predict = honest
        assert asyncio.run(asynchronously()).class_ids[1] == 3


UNREADABLE = [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0fx", b"\x0a\x03\x0a\x01\xff", b"<html>not grpc</html>"]


@pytest.mark.parametrize("content", [*UNREADABLE, b""])
@pytest.mark.parametrize("method", ["predict", "get_model", "wait_ready"])
def test_bytes_that_are_no_answer(call: Call, method: str, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    arguments: dict[str, Any] = {"predict": IMAGES, "get_model": None, "wait_ready": 5}
    with Liar() as server:
        server.predict = lambda _: content
        server.info = liar.description().SerializeToString() if method == "predict" else content
        with pytest.raises(InvalidResponseError, match=r"bytes that cannot be read|expected a name, a version"):
            call(server.address, method, *([] if arguments[method] is None else [arguments[method]]))
    assert caplog.records == [], "gRPC would log a traceback"


@pytest.mark.parametrize("content", UNREADABLE)
def test_lists_that_are_no_answer(call: Call, content: bytes) -> None:
    with Liar() as server:
        server.listed = content
        with pytest.raises(InvalidResponseError, match="cannot be read"):
            call(server.address, "list_models")


def _sized(side: int) -> Callable[[pb.GetModelResponse], None]:
    return lambda info: info.manifest.image.MergeFrom(ImageSpec(rows=side, cols=side))


NONSENSE: list[tuple[str, Callable[[pb.GetModelResponse], Any]]] = [
    ("images of 0x2 pixels", lambda info: setattr(info.manifest.image, "rows", 0)),
    ("images of 2x0 pixels", lambda info: setattr(info.manifest.image, "cols", 0)),
    ("images of 0x0 pixels", lambda info: info.manifest.ClearField("image")),
    ("images of 4294967295x4294967295", _sized(2**32 - 1)),
    ("images of 65536x65536", _sized(2**16)),
    ("without labels", lambda info: info.manifest.ClearField("labels")),
    ("max_request_images 0", lambda info: setattr(info.serving, "max_request_images", 0)),
    ("max_message_bytes 3; expected room", lambda info: setattr(info.serving, "max_message_bytes", 3)),
    ("max_request_images 0", lambda info: info.ClearField("serving")),
    ("the model '' version 0", lambda info: info.ClearField("model")),
    ("images of 0x0", lambda info: info.ClearField("manifest")),
    ("test_accuracy nan", lambda info: setattr(info.manifest.evaluations[0], "test_accuracy", math.nan)),
    ("'m\\x1b[2J'", lambda info: setattr(info.model, "name", "m\x1b[2J")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "change"), NONSENSE, ids=[words for words, _ in NONSENSE])
def test_a_description_of_no_model(call: Call, words: str, change: Callable[[Any], Any]) -> None:
    with Liar() as server:
        server.misdescribe(change)
        for method, arguments in (("get_model", ()), ("predict", (IMAGES,)), ("wait_ready", (5,))):
            with pytest.raises(InvalidResponseError) as caught:
                call(server.address, method, *arguments)
            assert words in str(caught.value)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("no name or version", lambda summary: summary.ClearField("model")),
        ("no name or version", lambda summary: setattr(summary.model, "version", 0)),
        ("test_accuracy nan", lambda summary: setattr(summary, "test_accuracy", math.nan)),
        ("test_accuracy 7", lambda summary: setattr(summary, "test_accuracy", 7)),
    ],
)
def test_a_list_of_no_versions(call: Call, words: str, change: Callable[[Any], Any]) -> None:
    listed = liar.versions()
    change(listed.models[0])
    with Liar() as server:
        server.listed = listed.SerializeToString()
        with pytest.raises(InvalidResponseError, match=words):
            call(server.address, "list_models")


def test_a_newer_server_is_fine(call: Call) -> None:
    """Fields, enum values and answers that this version does not know of or did not ask for."""
    more = b"\xfa\x3e\x05hello\xf0\x3e\x07"  # fields 1007, a text, and 1006, a number
    with Liar() as server:
        server.predict = lambda request: liar.answer(request).SerializeToString() + more
        server.misdescribe(lambda info: setattr(info.serving, "precision", 77))
        server.info += more
        listed = liar.versions()
        listed.models[0].state = 99  # type: ignore[assignment]
        server.listed = listed.SerializeToString() + more
        answers = call(server.address, "predict", IMAGES, **ALL)
        assert (answers.class_ids.shape, answers.probabilities.shape) == ((120, 2), (120, 3))
        assert len(UnknownFieldSet(call(server.address, "get_model"))) == 2
        assert len(call(server.address, "list_models").models) == 1
        for command in (("info",), ("doctor",)):
            result = run("mlpserve", "--server", server.address, *command)
            assert (result.returncode, "unknown (77)" in result.stdout) == (0, True), result.stderr
        assert "unknown (99)" in run("mlpserve", "--server", server.address, "info").stdout


# --- any damage at all ---------------------------------------------------------------------------------------------


def _holds(answers: Predictions, count: int, options: Options) -> None:
    """What a caller may rely on."""
    shape = (count,) if options.top_k == 1 else (count, options.top_k)
    assert answers.class_ids.shape == answers.scores.shape == shape
    assert 0 <= answers.class_ids.min() <= answers.class_ids.max() < liar.CLASSES
    assert np.isfinite(answers.scores).all()
    assert 0 <= answers.scores.min() <= answers.scores.max() <= 1.001
    assert answers.model.name == "m"
    assert answers.model.version > 0
    assert (answers.probabilities is None) == (not options.probabilities)
    if answers.probabilities is not None:
        assert answers.probabilities.shape == (count, liar.CLASSES)
        assert np.abs(answers.probabilities.sum(axis=1) - 1).max() < 0.02


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 9, 60]), st.integers(1, 3), st.booleans(), st.booleans())
def test_damaged_answers_are_refused_or_hold(seed: int, count: int, top_k: int, whole: bool, timing: bool) -> None:
    options = Options(top_k, whole, timing)
    request = pb.PredictRequest(images=IMAGES[:count].tobytes(), top_k=top_k, probabilities=whole, timing=timing)
    content = mutated(random.Random(seed), liar.answer(request).SerializeToString())
    responses = Responses("server", "", 0)
    try:
        answers = responses.join([responses.predict(content)], [count], options, liar.description())
    except InvalidResponseError:
        return
    _holds(answers, count, options)


NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, 1.00005, 2.0, -1e-30, math.inf, math.nan]))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(1, 3), st.sampled_from(["scores", "probabilities"]), NUMBERS, st.data())
def test_one_wrong_number_is_refused_or_holds(
    count: int, top_k: int, column: str, number: float, data: st.DataObject
) -> None:
    options = Options(top_k, probabilities=True)
    response = liar.answer(pb.PredictRequest(images=IMAGES[:count].tobytes(), top_k=top_k, probabilities=True))
    _put(response, column, number, at=data.draw(st.integers(0, len(getattr(response, column)) // 4 - 1)))
    try:
        answers = Responses("server", "m", 3).join([response], [count], options, liar.description())
    except InvalidResponseError:
        return
    _holds(answers, count, options)


@settings(max_examples=600, deadline=None)
@given(st.integers(0, 2**32))
def test_damaged_descriptions_are_refused_or_usable(seed: int) -> None:
    content = mutated(random.Random(seed), liar.description().SerializeToString())
    try:
        info = Responses("server", "", 0).info(content)
    except InvalidResponseError:
        return
    assert part_size(info) >= 1
    rows, cols = info.manifest.image.rows, info.manifest.image.cols
    assert len(check_images(np.zeros((2, rows, cols), np.uint8), info)) == 2
    assert info.model.name.isprintable()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_damage_on_the_wire_is_one_error(seed: int) -> None:
    with Liar() as server:
        random_ = random.Random(seed)
        server.predict = lambda request: mutated(random_, liar.answer(request).SerializeToString())
        for call in (_sync, _async):
            with contextlib.suppress(InvalidResponseError):
                _holds(call(server.address, "predict", IMAGES[:9], top_k=2), 9, Options(2))
        server.info = mutated(random_, server.info)
        for call in (_sync, _async):
            with contextlib.suppress(MlpserveError):
                call(server.address, "predict", IMAGES[:9])


def test_details_of_an_error_may_be_anything(call: Call) -> None:
    def fail(_: str, __: bytes, context: Any) -> None:
        context.set_trailing_metadata([("grpc-status-details-bin", b"\xff\xff\xff")])
        context.abort(liar.grpc.StatusCode.INTERNAL, "broken \x1b[2J here")

    with Liar() as server:
        server.fail = fail
        with pytest.raises(ServerError) as caught:
            call(server.address, "get_model")
    assert r"broken \x1b[2J here" in str(caught.value)


# --- the commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "lie"),
    [
        ("class 99", _number("class_ids", 99, "<u4")),
        ("the score nan", _number("scores", math.nan)),
        ("scores of", _cut("scores", -1)),
        ("it is of 'm' version 4; expected 'm' version 3", lambda r: setattr(r.model, "version", 4)),
    ],
)
def test_score_ends_with_a_sentence(words: str, lie: Callable[[Any], Any], tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    with Liar() as server:
        server.lie(lie)
        result = run("mlpserve", "--server", server.address, "score", tmp_path / "images.npy", tmp_path / "out")
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out/_SUCCESS").exists()
        server.lie(lambda _: None)
        assert score(Endpoint(server.address), [str(tmp_path / "images.npy")], str(tmp_path / "out")).tally.rows == 120


def test_predict_info_and_doctor_end_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(png(np.full((2, 2), 90, np.uint8)))
    with Liar() as server:
        command = ("mlpserve", "--server", server.address)
        assert run(*command, "predict", tmp_path / "picture.png").returncode == 0
        server.lie(lambda response: _put(response, "class_ids", 99, "<u4", at=0))
        for arguments in (("predict", tmp_path / "picture.png"), ("doctor",)):
            result = run(*command, *arguments)
            assert result.returncode == 1
            assert "class 99 for image 0; expected 0 to 2, the model's classes" in result.stderr + result.stdout
            assert "Traceback" not in result.stderr
        server.misdescribe(lambda info: info.manifest.ClearField("labels"))
        for arguments in (("predict", tmp_path / "picture.png"), ("info",), ("doctor",)):
            result = run(*command, *arguments)
            assert result.returncode == 1
            assert "a model without labels" in result.stderr + result.stdout
            assert "Traceback" not in result.stderr


def test_shared_requests_share_the_error() -> None:
    async def calls(target: str) -> list[Any]:
        async with AsyncClient(target) as client:
            return await asyncio.gather(*(client.predict(image) for image in IMAGES), return_exceptions=True)

    with Liar() as server:
        server.lie(_number("scores", math.nan, "<f4"))
        outcomes = asyncio.run(calls(server.address))
    assert {type(outcome) for outcome in outcomes} == {InvalidResponseError}
