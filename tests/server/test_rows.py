"""Calls that travel as rows and the same calls as objects: the same answers, codes and counts."""

import math
import shutil
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mnist import mnist_images
from tests.support.artifacts import publish_rolled

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.loop import BatchingLoop
from mlpserve_server.batching.recording import Recorder
from mlpserve_server.calls import Answer, Call, PlainFormat, Rows
from mlpserve_server.catalog import Catalog, prepare
from mlpserve_server.errors import CallError
from mlpserve_server.models.loading import load
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.store.folder import Store

MAX_BATCH, MAX_QUEUE, BATCH_QUEUE = 4, 12, 6
IMAGES = mnist_images()[:8].reshape(8, 784)


class Sent(NamedTuple):
    """A call that somebody sends."""

    message: int  # the place among MESSAGES
    caller: int
    seconds: float = math.inf  # until its deadline
    alive: bool = True
    said: str = ""  # in metadata


class NumberedCall(Call):
    __slots__ = ("number",)
    number: int


class Script:
    """A transport that gives what it was told to, and keeps the answers by the calls' numbers.

    Caller 9 has a token that lets it send batch traffic only.
    """

    name = "script"

    def __init__(self, rounds: list[list[Sent]], *, rows: bool) -> None:
        self._started = time.monotonic()
        self._sent = [sent for sent_now in rounds for sent in sent_now]
        numbers = iter(range(len(self._sent)))
        self._rounds = [[next(numbers) for _ in sent_now] for sent_now in rounds]
        self._formats: Sequence[PlainFormat] = []
        self._takes_rows = rows
        self.answers: dict[int, Any] = {}
        self.given_rows = 0

    def _call(self, number: int) -> NumberedCall:
        sent = self._sent[number]
        method, payload = MESSAGES[sent.message]
        call = NumberedCall(payload, self._started, None, method, sent.caller)
        call.number, call.alive, call.deadline = number, sent.alive, self._started + sent.seconds
        call.said, call.only_batch = sent.said, sent.caller == 9
        return call

    def expect(self, formats: Sequence[PlainFormat]) -> None:
        self._formats = formats

    def _form(self, number: int) -> tuple[PlainFormat, bool] | None:
        """The format of a call that may be a row, and whether its caller is the one with the token."""
        sent = self._sent[number]
        method, payload = MESSAGES[sent.message]
        for form in self._formats:
            size = len(form.prefix) + form.pixels
            if not sent.said and (form.method, size) == (method, len(payload)) and payload.startswith(form.prefix):
                return form, sent.caller == 9
        return None

    def receive(self, timeout: float) -> Sequence[Call | Rows]:
        numbers = self._rounds.pop(0) if self._rounds else []
        if not self._takes_rows:
            return [self._call(number) for number in numbers]
        arrived: list[Call | Rows] = []
        for form, group in groupby(numbers, self._form):
            alike = list(group)
            if form is None or len(alike) == 1:
                arrived += [self._call(number) for number in alike]
            else:
                arrived.append(self._rows(*form, alike))
                self.given_rows += len(alike)
        return arrived

    def _rows(self, form: PlainFormat, capped: bool, numbers: list[int]) -> Rows:
        sent = [self._sent[number] for number in numbers]
        images = [np.frombuffer(MESSAGES[one.message][1], np.uint8)[len(form.prefix) :] for one in sent]
        callers, deadlines = (
            np.array([one.caller for one in sent], np.uint64),
            np.array([self._started + one.seconds for one in sent]),
        )
        arrived = np.full(len(sent), self._started)
        rows = Rows(self, form, np.stack(images), np.array(numbers, np.uint64), callers, arrived, deadlines)
        if capped:
            rows.caller, rows.only_batch = 9, True
        return rows

    def alive(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return np.array([self._sent[number].alive for number in numbers.tolist()], np.bool_)

    def call(self, rows: Rows, place: int) -> Call:
        assert rows.form.prefix + rows.pixels[place].tobytes() == MESSAGES[self._sent[rows.numbers[place]].message][1]
        call = self._call(int(rows.numbers[place]))
        call.caller, call.only_batch = "", False  # the rows know
        return call

    def send(self, answers: Sequence[Answer]) -> float:
        for calls, answer in answers:
            if isinstance(calls, Rows):
                for number, reply in zip(calls.numbers.tolist(), answer, strict=True):
                    self._keep(number, reply.tobytes())  # type: ignore[union-attr]
            else:
                assert isinstance(calls, NumberedCall)
                self._keep(calls.number, (answer.code, str(answer)) if isinstance(answer, CallError) else answer)
        return time.monotonic()

    def _keep(self, number: int, answer: Any) -> None:
        assert number not in self.answers
        self.answers[number] = answer

    @property
    def over(self) -> bool:
        return not self._rounds


Models = tuple[LoadedModel, LoadedModel]


@pytest.fixture(scope="module")
def models(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Versions 1 and 2, which call the classes by other numbers."""
    own = Path(shutil.copytree(store, tmp_path_factory.mktemp("rows") / "store"))
    publish_rolled(own / "mnist/1", own, 2)
    opened = [Store(own).open("mnist", number) for number in (1, 2)]
    one, two = (load(each, device="cpu", precision="fp32", max_batch=8, threads=1) for each in opened)
    return one, two


def _predict(images: npt.NDArray[np.uint8], **more: Any) -> tuple[int, bytes]:
    """As the client writes it: the images last."""
    return 0, pb.PredictRequest(**more).SerializeToString() + pb.PredictRequest(
        images=images.tobytes()
    ).SerializeToString()


def _infer(images: npt.NDArray[np.uint8], *, priority: int = 0, **more: Any) -> tuple[int, bytes]:
    request = oip.ModelInferRequest(model_name="mnist", raw_input_contents=[images.tobytes()], **more)
    request.inputs.add(name="images", datatype="UINT8", shape=[len(images), 784])
    if priority:
        request.parameters["priority"].uint64_param = priority
    return 1, request.SerializeToString()


ONE = IMAGES[5:6]
MESSAGES = [
    *[_predict(IMAGES[place : place + 1]) for place in range(6)],
    *[_infer(IMAGES[place : place + 1]) for place in range(4)],
    # 10, the version before; 11, traffic that says what it is; 12, both
    _predict(ONE, version=1),
    _predict(ONE, traffic="TRAFFIC_BATCH"),
    _predict(ONE, version=1, traffic="TRAFFIC_INTERACTIVE"),
    _predict(ONE, version=2),
    _predict(ONE, version=3),
    _predict(ONE, version=9),
    _predict(ONE, model="mnist"),
    _predict(ONE, top_k=3),
    _predict(IMAGES[5:8]),
    _predict(IMAGES),
    _predict(IMAGES[:5], traffic="TRAFFIC_INTERACTIVE"),
    (0, b""),
    (0, _predict(ONE)[1][:-1]),
    (0, b"\x1a"),
    _infer(ONE, model_version="1"),
    _infer(ONE, model_version="7"),
    _infer(ONE, priority=2),
    _infer(ONE, id="x"),
    _infer(IMAGES[5:7]),
]
PLAIN = st.integers(0, 12)  # mostly
SENT = st.builds(
    Sent,
    st.one_of(PLAIN, PLAIN, PLAIN, st.integers(0, len(MESSAGES) - 1)),
    st.sampled_from([0, 0, 1, 2, 9]),
    st.sampled_from([math.inf, math.inf, math.inf, 1000.0, 5.5, -1.0]),
    st.sampled_from([True, True, True, True, False]),
    st.sampled_from(["", "", "", "", "", "batch", "nonsense"]),
)
ROUNDS = st.lists(st.lists(SENT, max_size=16), min_size=1, max_size=5)


def _run(models: Models, rounds: list[list[Sent]], *, rows: bool) -> tuple[Script, dict[str, Any]]:
    catalog = Catalog("mnist", keep=1)
    for model in models:  # version 1 is kept, 2 serves, 3 is about to be there
        catalog.serve(prepare(model, max_request=16))
    catalog.expect("mnist", frozenset({3}))
    metrics = Metrics(catalog.describe)
    admission = Admission(
        catalog, metrics, max_batch=MAX_BATCH, max_queue=MAX_QUEUE, batch_queue=BATCH_QUEUE, batch_share=0.1
    )
    admission.observe(MAX_BATCH, 0, 4.0)  # so that a queue of nine images takes nine seconds
    script = Script(rounds, rows=rows)
    loop = BatchingLoop(script, catalog, admission, Recorder(metrics, RequestLog(slow=0), tracing=None))
    loop._next_probe = math.inf
    admission.observe = lambda *arguments: None  # type: ignore[method-assign]
    for _ in range(200):
        loop._run_once()
        if script.over and not admission:
            break
    assert not admission
    snapshot = metrics.snapshot()
    histograms = snapshot.pop("histograms")
    del snapshot["served"]  # it looks at some batches a second
    counted = {name: sum(counts) for name, (counts, _) in histograms.items()}
    return script, {**snapshot, "dropped": sorted(snapshot["dropped"]), "counted": counted}


@settings(max_examples=150, deadline=None)
@given(rounds=ROUNDS)
def test_rows_and_objects_get_the_same_answers_and_counts(models: Models, rounds: list[list[Sent]]) -> None:
    objects, counted = _run(models, rounds, rows=False)
    rows, counted_rows = _run(models, rounds, rows=True)
    assert _without_times(rows.answers) == _without_times(objects.answers)
    assert counted_rows == counted


@pytest.mark.parametrize(
    ("messages", "callers", "rows"),
    [
        ([0, 1, 2, 3], [0], 4),  # fit into a batch
        ([0, 1, 2, 3, 4, 5, 0, 1], [0], 8),  # have to wait
        ([0, 1, 2, 3, 4, 5, 0, 1], [0, 1], 8),  # of callers that take turns
        ([10, 10, 11, 11, 12, 12], [0], 6),  # of another version, and of batch traffic
        ([0, 1, 2], [9], 3),  # whose token makes them batch traffic
    ],
)
def test_plain_calls_do_travel_as_rows(models: Models, messages: list[int], callers: list[int], rows: int) -> None:
    calls = [Sent(message, callers[place % len(callers)]) for place, message in enumerate(messages)]
    script, counted = _run(models, [calls], rows=True)
    assert script.given_rows == rows
    assert [isinstance(script.answers[number], bytes) for number in range(len(calls))] == [True] * len(calls)
    assert counted["images"] == len(calls)


def test_headers_of_model_infer_are_learned(models: Models) -> None:
    calls = [Sent(message, 0) for message in (6, 7, 8, 9)]
    script, _ = _run(models, [calls[:1], calls[:1], calls], rows=True)
    assert script.given_rows == 4
    expected = models[1].predict(IMAGES[:4]).class_ids.tolist()
    answers = [oip.ModelInferResponse.FromString(script.answers[number]) for number in range(2, 6)]
    assert [np.frombuffer(answer.raw_output_contents[0], np.int32)[0] for answer in answers] == expected


def test_rows_that_fail_in_the_model_are_told(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(images: Any) -> Any:
        raise RuntimeError("the model is broken")

    monkeypatch.setattr(models[1], "predict", broken)
    script, counted = _run(models, [[Sent(message, 0) for message in (0, 1, 2)]], rows=True)
    assert {answer[0].name for answer in script.answers.values()} == {"INTERNAL"}
    assert len(script.answers) == 3
    assert counted["handled"][0] == {"INTERNAL": 3}


def _without_times(answers: dict[int, Any]) -> dict[int, Any]:
    """Answers without the seconds that an estimate of the wait says."""
    return {
        number: (answer[0], answer[1].partition(" s, and the call's deadline is in")[0])
        if isinstance(answer, tuple)
        else answer
        for number, answer in answers.items()
    }
