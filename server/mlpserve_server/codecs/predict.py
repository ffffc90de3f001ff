"""Request bytes to arrays, arrays to reply bytes. Nothing here touches single pixels or single floats.

Most requests hold images and nothing else, and most replies the best class and nothing else. Both have a short way that
needs no protobuf object: such a request is a constant header and the pixels, and the replies to single images
are rows of one array of bytes. Everything else goes through the generated messages; a property test compares the two.

Legend: N images, D pixels, C classes, K classes returned for each image.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from mlpserve.v1.classifier_pb2 import PredictRequest, Timing
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_server.errors import InvalidRequest, UnknownModel
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.models.runners import Predictions

# Tags of length-delimited fields: number × 8 + 2.
IMAGES_TAG = b"\x1a"  # PredictRequest
NAMES_LENGTH = 160  # bytes that hold a model's name and a version
CLASS_IDS_TAG, SCORES_TAG, PROBABILITIES_TAG = b"\x1a", b"\x22", b"\x2a"  # PackedPredictResponse


class Reply(Protocol):
    """Encodes one answer in another protocol."""

    def encode(self, predictions: Predictions, start: int, stop: int) -> bytes:
        """The reply for rows start to stop of a batch."""

    def encode_singles(self, predictions: Predictions) -> list[bytes]:
        """The replies to a batch of requests with one image each, which all want this reply."""


class Request(NamedTuple):
    """A checked request.

    Attributes:
        images: N × D bytes.
        size: N.
        top_k: K, at least 1.
        probabilities: whether the whole distribution is wanted.
        reply: how to answer in another protocol than Predict's, or None.
        timing: whether the answer is to say how long it took.
    """

    images: bytes | memoryview
    size: int
    top_k: int
    probabilities: bool
    reply: "Reply | None" = None
    timing: bool = False


class Decoder:
    """Parses and checks requests for one model.

    Args:
        model: that will answer.
        max_request: most images in one request.
    """

    def __init__(self, model: LoadedModel, max_request: int) -> None:
        self._model = model
        self._max_request = max_request
        self._plain = _plain_headers(model.pixels, max_request)
        self._pinned = PredictRequest(version=model.ref.version).SerializeToString()

    def decode(self, payload: bytes) -> Request:
        """Parse and check one request.

        Raises:
            InvalidRequest: it is not a PredictRequest, or a field is wrong.
            UnknownModel: it asks for another model or version.
        """
        plain = self._plain.get(len(payload))
        if plain is not None and payload.startswith(plain[0]):
            return Request(memoryview(payload)[len(plain[0]) :], plain[1], 1, False)
        if payload.startswith(self._pinned):
            names = len(self._pinned)
            plain = self._plain.get(len(payload) - names)
            if plain is not None and payload.startswith(plain[0], names):
                return Request(memoryview(payload)[names + len(plain[0]) :], plain[1], 1, False)
        return self._decode_message(payload)

    def _decode_message(self, payload: bytes) -> Request:
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
        return Request(images, count, max(request.top_k, 1), request.probabilities, timing=request.timing)


@lru_cache(maxsize=4)
def _plain_headers(pixels: int, max_request: int) -> dict[int, tuple[bytes, int]]:
    """Length of a message that holds n images and nothing else → its header and n; the same for every version."""
    plain = {}
    for count in range(1, max_request + 1):
        header = IMAGES_TAG + _varint(count * pixels)
        plain[len(header) + count * pixels] = header, count
    return plain


def named_version(payload: bytes) -> int:
    """The version that a request of either protocol names; 0 if it names none, or not where serializers put it.

    In both protocols field 1 is the model's name and field 2 its version: a number in Predict, text in ModelInfer.
    """
    head = payload[:NAMES_LENGTH]
    position = 2 + head[1] if head[:1] == b"\n" and len(head) > 1 and head[1] < 0x80 else 0
    tag, rest = head[position : position + 1], head[position + 1 :]
    if tag == b"\x10":
        value = 0
        for place, byte in enumerate(rest[:5]):
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
    elif tag == b"\x12" and rest[:1]:
        text = rest[1 : 1 + rest[0]]
        return int(text) if text.isdigit() and len(text) < 10 else 0
    return 0


def check_model(name: str, version: int, model: LoadedModel) -> None:
    """Check the model and version that a request names.

    Raises:
        UnknownModel: they are not the ones that `model` is.
    """
    ref = model.ref
    if name and name != ref.name:
        # A status travels in a header, whose size is limited.
        raise UnknownModel(f"model {name[:64]!r} is not served here; this server serves {ref.name!r}")
    if version and version != ref.version:
        raise UnknownModel(f"version {version} of {ref.name!r} is not served here; version {ref.version} is")


def assemble(requests: list[Request], pixels: int) -> npt.NDArray[np.uint8]:
    """The images of several requests as one array [N, D]; a single request's bytes are not copied."""
    buffer = requests[0].images if len(requests) == 1 else b"".join([request.images for request in requests])
    return np.frombuffer(buffer, np.uint8).reshape(-1, pixels)


class Encoder:
    """Cuts a batch's answers into replies.

    Args:
        model: that answered.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._ref = model.ref
        # Serialised messages that follow one another merge when parsed, so the constant part is written once.
        self._prefix = PackedPredictResponse(model=model.ref, top_k=1).SerializeToString()
        # The reply to one image with class id 0xffffffff and a score of all ones: a template with two gaps.
        template = self._prefix + PackedPredictResponse(class_ids=b"\xff" * 4, scores=b"\xff" * 4).SerializeToString()
        self._template = np.frombuffer(template, np.uint8)
        self._id_gap = len(template) - 10
        self._score_gap = len(template) - 4

    def encode(self, requests: list[Request], predictions: Predictions, timing: Callable[[int], Timing]) -> list[bytes]:
        """One reply for each request, whose images are the batch's next `size` rows.

        Args:
            requests: of the batch.
            predictions: for all their images.
            timing: of the request with a number, called for those that asked for it.
        """
        if len(requests) > 1 and len(predictions.class_ids) == len(requests) and all(map(_is_short, requests)):
            return self._encode_singles(predictions)
        reply = requests[0].reply
        if reply is not None and all(request.reply is reply and request.size == 1 for request in requests):
            return reply.encode_singles(predictions)
        replies, stop = [], 0
        for number, request in enumerate(requests):
            start, stop = stop, stop + request.size
            if request.reply is None:
                reply_bytes = self._encode_one(request, predictions, start, stop)
                if request.timing:
                    reply_bytes += PackedPredictResponse(timing=timing(number)).SerializeToString()
                replies.append(reply_bytes)
            else:
                replies.append(request.reply.encode(predictions, start, stop))
        return replies

    def _encode_singles(self, predictions: Predictions) -> list[bytes]:
        """Replies to single images that want the best class only: rows of one array."""
        count, length = len(predictions.class_ids), len(self._template)
        rows = np.empty((count, length), np.uint8)
        rows[:] = self._template
        rows[:, self._id_gap : self._id_gap + 4] = predictions.class_ids.view(np.uint8).reshape(count, 4)
        rows[:, self._score_gap :] = predictions.scores.view(np.uint8).reshape(count, 4)
        buffer = rows.tobytes()
        return [buffer[start : start + length] for start in range(0, count * length, length)]

    def _encode_one(self, request: Request, predictions: Predictions, start: int, stop: int) -> bytes:
        if request.top_k == 1:
            reply = (
                self._prefix
                + field(CLASS_IDS_TAG, predictions.class_ids[start:stop].tobytes())
                + field(SCORES_TAG, predictions.scores[start:stop].tobytes())
            )
        else:
            # Stable, so that ties go to the lower class id as in the graph's ArgMax.
            rows = predictions.probabilities[start:stop]
            best = np.argsort(-rows, axis=1, kind="stable")[:, : request.top_k]
            reply = PackedPredictResponse(
                model=self._ref,
                top_k=request.top_k,
                class_ids=best.astype(np.int32).tobytes(),
                scores=np.take_along_axis(rows, best, axis=1).tobytes(),
            ).SerializeToString()
        if request.probabilities:
            reply += field(PROBABILITIES_TAG, predictions.probabilities[start:stop].tobytes())
        return reply


def _is_short(request: Request) -> bool:
    return request.top_k == 1 and not request.probabilities and not request.timing and request.reply is None


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field."""
    return tag + _varint(len(content)) + content


@lru_cache(maxsize=8192)
def _varint(value: int) -> bytes:
    """Protobuf's variable-length form of a number."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
