"""What a server says of its models: nonsense is one error, and a newer server's words are fine."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from support.processes import run
from tests.support import liar
from tests.support.clients import Call
from tests.support.liar import Liar
from tests.support.lies import IMAGES

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import ImageSpec
from mlpserve_client import InvalidResponseError

ALL = {"top_k": 2, "probabilities": True, "timing": True}


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
