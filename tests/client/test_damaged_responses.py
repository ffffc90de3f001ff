"""Any damage at all to what a server sends: it is refused, or what is returned holds."""

import contextlib
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import liar
from tests.support.clients import Call, in_async, in_sync
from tests.support.liar import Liar
from tests.support.lies import IMAGES, put
from tests.support.mutate import mutated

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import InvalidResponseError, MessageTooLargeError, MlpserveError, Predictions
from mlpserve_client.connection.channel import LARGEST_ANSWER
from mlpserve_client.messages.encoding import Options, check_images, part_size
from mlpserve_client.messages.responses import Responses


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
    put(response, column, number, at=data.draw(st.integers(0, len(getattr(response, column)) // 4 - 1)))
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
        for call in (in_sync, in_async):
            with contextlib.suppress(InvalidResponseError):
                _holds(call(server.address, "predict", IMAGES[:9], top_k=2), 9, Options(2))
        server.info = mutated(random_, server.info)
        for call in (in_sync, in_async):
            with contextlib.suppress(MlpserveError):
                call(server.address, "predict", IMAGES[:9])


@pytest.mark.parametrize("call", [in_sync, in_async])
def test_an_answer_without_bounds_is_refused_by_its_length(call: Call) -> None:
    with Liar() as server:
        server.predict = lambda _: bytes(LARGEST_ANSWER + 1)
        with pytest.raises(MessageTooLargeError, match=r"larger than max|Received message"):
            call(server.address, "predict", IMAGES[:1])
