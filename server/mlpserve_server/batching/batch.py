"""What runs together: the images of calls as one array, and its predictions as their replies."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mlpserve.v1.classifier_pb2 import Timing
from mlpserve_server.batching.fair import Slice
from mlpserve_server.batching.progress import Progress
from mlpserve_server.calls import BATCH, Answer, Call, Rows, each, joined
from mlpserve_server.catalog import Served
from mlpserve_server.codecs.base import Request
from mlpserve_server.codecs.predict import TRAFFIC_NAMES
from mlpserve_server.models.runners import Images, Predictions


class Part(NamedTuple):
    """Calls of one method and class that follow one another and run whole.

    Attributes:
        method: the place in METHODS.
        traffic: the place in TRAFFIC.
        calls: one for each request.
        requests: decoded.
    """

    method: int
    traffic: int
    calls: list[Call]
    requests: list[Request[object]]


class RowPart(NamedTuple):
    """Calls without objects that run whole; all are alike.

    Attributes:
        method: the place in METHODS.
        traffic: the place in TRAFFIC.
        rows: the calls.
        form: of their answers, as their codec reads it.
    """

    method: int
    traffic: int
    rows: Rows
    form: object


class Batch(NamedTuple):
    """Requests, and slices of requests, that run together.

    Attributes:
        started: time.monotonic() when they were put together.
        served: what answers them.
        rows: the calls that run whole and are no objects; one part unless methods, classes or formats mix.
        parts: the others that run whole, in order, behind the rows; one part unless methods or classes mix.
        slices: of larger calls, behind the others.
        images: uint8 [N, D], of all of them in order.
        batch_images: how many of them are batch traffic's.
        finished: calls whose last slice was in this batch; `encode` adds them.
    """

    started: float
    served: Served
    rows: list[RowPart]
    parts: list[Part]
    slices: list[Slice[Call]]
    images: Images
    batch_images: int
    finished: list[Call]

    @property
    def whole(self) -> list[Call]:
        """The calls that run whole and are objects, in order."""
        return self.parts[0].calls if len(self.parts) == 1 else [call for part in self.parts for call in part.calls]

    def all_calls(self) -> list[Call]:
        """The calls that run whole as objects, and those of slices."""
        rows = [part.rows for part in self.rows]
        return [*each(rows), *self.whole, *(part.item for part in self.slices)]

    def encode(self, predictions: Predictions) -> list[Answer]:
        """The answers to the calls that are complete with predictions for all images."""
        answers: list[Answer] = []
        stop = 0
        alone = len(self.rows) + len(self.parts) == 1 and not self.slices
        for of_rows in self.rows:
            start, stop = stop, stop + len(of_rows.rows)
            rows = predictions if alone else predictions.rows(start, stop)
            answers.append((of_rows.rows, self.served.codecs[of_rows.method].encode_rows(of_rows.form, rows)))
        for part in self.parts:
            rows = predictions
            if not alone:
                start, stop = stop, stop + sum(request.size for request in part.requests)
                rows = predictions.rows(start, stop)
            replies = self.served.codecs[part.method].encode(part.requests, rows, self._timing(part))
            answers += zip(part.calls, replies, strict=True)
        for call, first, last, _ in self.slices:
            start, stop = stop, stop + last - first
            if call.progress.add(first, predictions.rows(start, stop), time.monotonic() - self.started):
                self.finished.append(call)
                answers.append((call, self._encode_sliced(call)))
        return answers

    def _encode_sliced(self, call: Call) -> bytes:
        """The answer to a call of which all slices have run."""
        progress: Progress = call.progress

        def timing(_: int) -> Timing:
            return Timing(
                queue_seconds=time.monotonic() - call.arrived - progress.run_seconds,
                run_seconds=progress.run_seconds,
                batch_images=len(self.images),
                traffic=_said(call.traffic),
                slices=progress.slices,
            )

        return self.served.codecs[call.method].encode([call.request], progress.predictions, timing)[0]

    def _timing(self, part: Part) -> Callable[[int], Timing]:
        """Gives where the time of a part's request with some number has gone."""
        return lambda number: Timing(
            queue_seconds=self.started - part.calls[number].arrived,
            run_seconds=time.monotonic() - self.started,
            batch_images=len(self.images),
            traffic=_said(part.traffic),
            slices=1,
        )


def _said(traffic: int | None) -> str:
    """A class as the contract writes it."""
    return TRAFFIC_NAMES[traffic or 0]


def form(served: Served, whole: Sequence[Call | Rows], slices: list[Slice[Call]]) -> Batch:
    """Put decoded calls together.

    Args:
        served: answers them.
        whole: calls that run whole, in order.
        slices: of others.
    """
    started, pixels = time.monotonic(), served.model.pixels
    parts: list[Part] = []
    alike: dict[tuple[int, int, int], list[Rows]] = {}  # by what their answers depend on
    method: int | None = None
    traffic: int | None = None
    for call in whole:
        if isinstance(call, Rows):
            assert call.traffic is not None
            alike.setdefault((call.method, call.traffic, id(call.asked)), []).append(call)
            continue
        if call.method != method or call.traffic != traffic:
            method, traffic = call.method, call.traffic
            assert traffic is not None
            part = Part(method, traffic, [], [])
            parts.append(part)
            add_call, add_request = part.calls.append, part.requests.append
        add_call(call)
        add_request(call.request)
    rows = [RowPart(key[0], key[1], joined(pieces), pieces[0].asked) for key, pieces in alike.items()]
    buffers: list[bytes | memoryview] = [part.rows.pixels.data for part in rows]
    buffers += [request.images for part in parts for request in part.requests]
    for call, start, stop, size in slices:
        if call.progress is None:
            call.progress = Progress(size, served.model.classes, started)
        buffers.append(memoryview(call.request.images)[start * pixels : stop * pixels])
    buffer = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    images = np.frombuffer(buffer, np.uint8).reshape(-1, pixels)
    return Batch(started, served, rows, parts, slices, images, _batch_images(rows, parts, slices), [])


def form_part(served: Served, part: Part) -> Batch:
    """Make a part of interactive calls a batch.

    Args:
        served: answers them.
        part: nothing else runs with it.
    """
    started, requests = time.monotonic(), part.requests
    buffer = requests[0].images if len(requests) == 1 else b"".join([request.images for request in requests])
    images = np.frombuffer(buffer, np.uint8).reshape(-1, served.model.pixels)
    return Batch(started, served, [], [part], [], images, 0, [])


def _batch_images(rows: list[RowPart], parts: list[Part], slices: list[Slice[Call]]) -> int:
    """How many images are batch traffic's."""
    images = 0
    for of_rows in rows:
        if of_rows.traffic == BATCH:
            images += len(of_rows.rows)
    for part in parts:
        if part.traffic == BATCH:
            images += sum(request.size for request in part.requests)
    for call, start, stop, _ in slices:
        if call.traffic == BATCH:
            images += stop - start
    return images
