"""Predict. Nothing here touches single pixels or single floats.

Most requests hold images and nothing else, and most replies the best class and nothing else. Both have a fast path that
needs no protobuf object: such a request is a constant header and the pixels, and the replies to single images
are rows of one array of bytes. Everything else goes through the generated messages; a property test compares the two.

Legend: N images, D pixels, C classes, K classes returned for each image.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from mlpserve.v1.classifier_pb2 import TRAFFIC_UNSPECIFIED, PredictRequest, Timing, Traffic
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_server.codecs.base import Plain, Request
from mlpserve_server.codecs.naming import check_model
from mlpserve_server.codecs.protobuf import field, fill, split, varint
from mlpserve_server.errors import InvalidRequest
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.models.runners import Predictions

# Tags of length-delimited fields: number × 8 + 2.
IMAGES_TAG = b"\x1a"  # PredictRequest
TRAFFIC_NAMES = ("TRAFFIC_INTERACTIVE", "TRAFFIC_BATCH")  # the contract's, of each of TRAFFIC
CLASS_IDS_TAG, SCORES_TAG, PROBABILITIES_TAG = b"\x1a", b"\x22", b"\x2a"  # PackedPredictResponse


class Form(NamedTuple):
    """What an answer is to say.

    Attributes:
        top_k: K, at least 1.
        probabilities: the whole distribution too.
        timing: how long it took too.
    """

    top_k: int
    probabilities: bool
    timing: bool


BEST_CLASS = Form(1, False, False)


class PredictCodec:
    """Predict for one model; see `Codec`.

    Args:
        model: that answers.
        max_request: most images in one request.
    """

    def __init__(self, model: LoadedModel, max_request: int) -> None:
        self._model = model
        self._max_request = max_request
        self._plain = _plain_headers(model.pixels, max_request)
        self._prefixes = _prefixes(model.ref.version)
        header = IMAGES_TAG + varint(model.pixels)
        said = [(b"", None), *self._prefixes]
        self._singles = {prefix + header: Plain(BEST_CLASS, traffic) for prefix, traffic in said}
        # Serialised messages that follow one another merge when parsed, so the constant part is written once.
        self._prefix = PackedPredictResponse(model=model.ref, top_k=1).SerializeToString()
        # The reply to one image with class id 0xffffffff and a score of all ones: a template with two gaps.
        template = self._prefix + PackedPredictResponse(class_ids=b"\xff" * 4, scores=b"\xff" * 4).SerializeToString()
        self._template = np.frombuffer(template, np.uint8)
        self._id_gap, self._score_gap = len(template) - 10, len(template) - 4
        self._before_id, self._before_score = template[: self._id_gap], template[-6:-4]

    def decode(self, payload: bytes) -> Request[Form]:  # noqa: D102
        plain = self._plain.get(len(payload))
        if plain is not None and payload.startswith(plain[0]):
            return Request(memoryview(payload)[len(plain[0]) :], plain[1], BEST_CLASS)
        for prefix, traffic in self._prefixes:
            if payload.startswith(prefix):
                start = len(prefix)
                plain = self._plain.get(len(payload) - start)
                if plain is not None and payload.startswith(plain[0], start):
                    return Request(memoryview(payload)[start + len(plain[0]) :], plain[1], BEST_CLASS, traffic)
                break
        return self._decode_message(payload)

    def _decode_message(self, payload: bytes) -> Request[Form]:
        model = self._model
        try:
            request = PredictRequest.FromString(payload)
        except DecodeError as error:
            raise InvalidRequest("", "the message is not a mlpserve.v1.PredictRequest") from error
        check_model(request.model, request.version, model)
        images = request.images
        if not images:
            raise InvalidRequest("images", "there are no images; send at least one")
        if len(images) % model.pixels:
            image = model.version.manifest.image
            size = f"{image.rows}x{image.cols} images ({model.pixels} bytes each)"
            raise InvalidRequest("images", f"{len(images)} bytes are not a whole number of {size}")
        count = len(images) // model.pixels
        if count > self._max_request:
            message = f"{count} images in one request; this server takes at most {self._max_request}"
            raise InvalidRequest("images", message)
        if request.top_k > model.classes:
            raise InvalidRequest("top_k", f"{request.top_k} classes asked for; the model has {model.classes}")
        if request.traffic not in Traffic.values():
            names = ", ".join(name for name, number in Traffic.items() if number != TRAFFIC_UNSPECIFIED)
            raise InvalidRequest("traffic", f"{request.traffic} is unknown; expected none, {names}")
        traffic = request.traffic - 1 if request.traffic else None
        form = Form(max(request.top_k, 1), request.probabilities, request.timing)
        return Request(images, count, BEST_CLASS if form == BEST_CLASS else form, traffic)

    def plain(self) -> Mapping[bytes, Plain[Form]]:  # noqa: D102
        return self._singles

    def encode_rows(self, form: Form, predictions: Predictions) -> npt.NDArray[np.uint8]:  # noqa: D102
        count = len(predictions.class_ids)
        ids, scores = (column.view(np.uint8).reshape(count, 4) for column in predictions[:2])
        return fill(self._template, {self._id_gap: ids, self._score_gap: scores}, count)

    def encode(  # noqa: D102
        self, requests: Sequence[Request[Form]], predictions: Predictions, timing: Callable[[int], Timing]
    ) -> list[bytes]:
        count = len(requests)
        if len(predictions.class_ids) == 1 and requests[0].form is BEST_CLASS:
            class_id, score = predictions.class_ids.tobytes(), predictions.scores.tobytes()
            return [self._before_id + class_id + self._before_score + score]
        if count > 1 and len(predictions.class_ids) == count and all(r.form is BEST_CLASS for r in requests):
            return split(self.encode_rows(BEST_CLASS, predictions))
        replies, stop = [], 0
        for number, request in enumerate(requests):
            start, stop = stop, stop + request.size
            reply = self._encode_one(request.form, predictions, start, stop)
            if request.form.timing:
                reply += PackedPredictResponse(timing=timing(number)).SerializeToString()
            replies.append(reply)
        return replies

    def _encode_one(self, form: Form, predictions: Predictions, start: int, stop: int) -> bytes:
        if form.top_k == 1:
            reply = (
                self._prefix
                + field(CLASS_IDS_TAG, predictions.class_ids[start:stop].tobytes())
                + field(SCORES_TAG, predictions.scores[start:stop].tobytes())
            )
        else:
            # Stable, so that ties go to the lower class id as in the graph's ArgMax.
            rows = predictions.probabilities[start:stop]
            best = np.argsort(-rows, axis=1, kind="stable")[:, : form.top_k]
            reply = PackedPredictResponse(
                model=self._model.ref,
                top_k=form.top_k,
                class_ids=best.astype(np.int32).tobytes(),
                scores=np.take_along_axis(rows, best, axis=1).tobytes(),
            ).SerializeToString()
        if form.probabilities:
            reply += field(PROBABILITIES_TAG, predictions.probabilities[start:stop].tobytes())
        return reply


def _prefixes(version: int) -> list[tuple[bytes, int | None]]:
    """What may stand before a message that is plain otherwise, longest first, and the traffic that it names."""
    pinned = PredictRequest(version=version).SerializeToString()
    said = [(PredictRequest(traffic=name).SerializeToString(), traffic) for traffic, name in enumerate(TRAFFIC_NAMES)]
    return [*((pinned + says, traffic) for says, traffic in said), (pinned, None), *said]


@lru_cache(maxsize=4)
def _plain_headers(pixels: int, max_request: int) -> dict[int, tuple[bytes, int]]:
    """Length of a message that holds n images and nothing else → its header and n; the same for every version."""
    plain = {}
    for count in range(1, max_request + 1):
        header = IMAGES_TAG + varint(count * pixels)
        plain[len(header) + count * pixels] = header, count
    return plain
