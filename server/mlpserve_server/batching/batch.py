"""Calls that run together: their messages to one array of images, and its predictions to their replies."""

import time
from collections.abc import Callable
from typing import NamedTuple

from mlpserve.v1.classifier_pb2 import Timing
from mlpserve_server.batching.failures import Failure
from mlpserve_server.calls import Answer, Call
from mlpserve_server.catalog import Served
from mlpserve_server.codecs.base import Request, assemble
from mlpserve_server.errors import CallError
from mlpserve_server.models.runners import Images, Predictions


class Part(NamedTuple):
    """Calls of one method that follow one another.

    Attributes:
        method: the place in METHODS.
        calls: one for each request.
        requests: decoded.
    """

    method: int
    calls: list[Call]
    requests: list[Request[object]]


class Batch(NamedTuple):
    """Decoded calls that run together.

    Attributes:
        started: time.monotonic() when their decoding began.
        served: what answers them.
        parts: the calls in order, one part unless methods mix.
        images: uint8 [N, D], of all requests in order.
    """

    started: float
    served: Served
    parts: list[Part]
    images: Images

    @property
    def calls(self) -> list[Call]:
        """All calls in order."""
        return self.parts[0].calls if len(self.parts) == 1 else [call for part in self.parts for call in part.calls]

    def encode(self, predictions: Predictions) -> list[Answer]:
        """The answer to each call, from predictions for all images."""
        answers: list[Answer] = []
        stop = 0
        for part in self.parts:
            rows = predictions
            if len(self.parts) > 1:
                start, stop = stop, stop + sum(request.size for request in part.requests)
                rows = predictions.rows(start, stop)
            replies = self.served.codecs[part.method].encode(part.requests, rows, self._timing(part))
            answers += zip(part.calls, replies, strict=True)
        return answers

    def _timing(self, part: Part) -> Callable[[int], Timing]:
        """Gives where the time of a part's request with some number has gone."""
        return lambda number: Timing(
            queue_seconds=self.started - part.calls[number].arrived,
            run_seconds=time.monotonic() - self.started,
            batch_images=len(self.images),
        )


def decode(served: Served, calls: list[Call], failures: list[Failure]) -> Batch | None:
    """Decode each call by itself and put the images of the good ones together.

    Args:
        served: answers them.
        calls: in order.
        failures: gets the calls that cannot be decoded.

    Returns:
        None when no call is good.
    """
    started = time.monotonic()
    parts: list[Part] = []
    method = -1
    for call in calls:
        try:
            request = served.codecs[call.method].decode(call.payload)
        except CallError as error:
            failures.append(Failure(call, error, "invalid"))
            continue
        if call.method != method:
            method = call.method
            part = Part(method, [], [])
            parts.append(part)
        part.calls.append(call)
        part.requests.append(request)
    if not parts:
        return None
    requests = parts[0].requests if len(parts) == 1 else [request for part in parts for request in part.requests]
    return Batch(started, served, parts, assemble(requests, served.model.pixels))
