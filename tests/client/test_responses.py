"""Servers that lie: what is returned is what the contract allows, or one error says what is wrong."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support import liar
from tests.support.clients import Call
from tests.support.liar import Liar
from tests.support.lies import IMAGES, cut, double, number, other_classes, put

from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_client import AsyncClient, Client, InvalidResponseError, Predictions, ServerError

ALL = {"top_k": 2, "probabilities": True, "timing": True}


LIES: list[tuple[str, Callable[[PackedPredictResponse], Any], dict[str, Any]]] = [
    ("class_ids of 4 bytes; expected 480", cut("class_ids", 4), {}),
    ("class_ids of 479 bytes", cut("class_ids", -1), {}),
    ("class_ids of 0 bytes", cut("class_ids", 0), {}),
    ("class_ids of 960 bytes", double, {}),
    ("scores of 479 bytes", cut("scores", -1), {}),
    ("scores of 0 bytes", cut("scores", 0), {}),
    ("probabilities of 1,436 bytes; expected 1,440", cut("probabilities", -4), ALL),
    ("probabilities of 0 bytes", cut("probabilities", 0), ALL),
    ("class 99 for image 1; expected 0 to 2", number("class_ids", 99, "<u4"), {}),
    ("class 3 for image 0; expected 0 to 2", number("class_ids", 3, "<u4"), ALL),
    ("class 4294967295 for image 1", number("class_ids", 2**32 - 1, "<u4"), {}),
    ("the score nan for image 1", number("scores", math.nan), {}),
    ("the score inf for image 1", number("scores", math.inf), {}),
    ("the score -inf for image 1", number("scores", -math.inf), {}),
    ("the score -0.1 for image 1; expected 0 to 1", number("scores", -0.1), {}),
    ("the score 1.5 for image 1", number("scores", 1.5), {}),
    ("the probability nan for image 0", number("probabilities", math.nan), ALL),
    ("the probability 2 for image 0", number("probabilities", 2), ALL),
    ("probabilities that sum to", lambda r: put(r, "probabilities", 0, at=0), ALL),
    ("scores that rise", lambda r: setattr(r, "scores", np.frombuffer(r.scores, "<f4")[::-1].tobytes()), {"top_k": 3}),
    ("the same class twice", lambda r: setattr(r, "class_ids", bytes(len(r.class_ids))), {"top_k": 2}),
    ("not the probabilities", other_classes, ALL),
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
            with pytest.raises(InvalidResponseError, match="which the call requested"):
                call(server.address, "get_model", options=pinned)


def _took_over(response: PackedPredictResponse) -> None:
    """Version 4 answers, which knows one class more."""
    response.model.version = 4
    put(response, "class_ids", 3, "<u4")


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


def test_details_of_an_error_may_be_anything(call: Call) -> None:
    def fail(_: str, __: bytes, context: Any) -> None:
        context.set_trailing_metadata([("grpc-status-details-bin", b"\xff\xff\xff")])
        context.abort(liar.grpc.StatusCode.INTERNAL, "broken \x1b[2J here")

    with Liar() as server:
        server.fail = fail
        with pytest.raises(ServerError) as caught:
            call(server.address, "get_model")
    assert r"broken \x1b[2J here" in str(caught.value)
