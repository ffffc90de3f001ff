"""Images as serialised PredictRequests: checked against the model, split into parts that the server accepts, encoded.

`Client` and `AsyncClient` share all of it, so that they cannot drift apart.

Legend: N images, D pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlpserve.files.arrays import ZERO_OR_ONE
from mlpserve.v1.classifier_pb2 import GetModelResponse, PredictRequest
from mlpserve_client.errors import InvalidInputError

PREDICT = "/mlpserve.v1.ClassifierService/Predict"
GET_MODEL = "/mlpserve.v1.ClassifierService/GetModel"
LIST_MODELS = "/mlpserve.v1.ClassifierService/ListModels"

IMAGES_TAG = b"\x1a"  # of PredictRequest.images, field 3: number × 8 + 2
REQUEST_OVERHEAD = 1024  # bytes of a request beside its images, at most
MODEL_CHANGES = 3  # times that an array is sent while new versions take over between its parts

Images = npt.NDArray[np.uint8]

# The field that says who waits for an answer, for the names that it has in this package.
TRAFFIC = {
    "": b"",
    "interactive": PredictRequest(traffic="TRAFFIC_INTERACTIVE").SerializeToString(),
    "batch": PredictRequest(traffic="TRAFFIC_BATCH").SerializeToString(),
}


class Options(NamedTuple):
    """What a call wants to have answered.

    Attributes:
        top_k: classes for each image.
        probabilities: the whole distribution as well.
        timing: where the time went as well.
    """

    top_k: int = 1
    probabilities: bool = False
    timing: bool = False


def check_images(images: npt.ArrayLike, info: GetModelResponse) -> Images:
    """Images as [N, D].

    Args:
        images: uint8 [N, rows, cols], [rows, cols] or [N, D].
        info: of the model that will answer; its image size tells the forms apart.

    Raises:
        InvalidInputError: another type or shape, no images, or pixels that are all 0 or 1.
    """
    array = np.asarray(images)
    rows, cols = info.manifest.image.rows, info.manifest.image.cols
    if array.dtype != np.uint8:
        raise InvalidInputError(
            f"images have type {array.dtype}; expected uint8, raw pixels from 0 to 255 (normalisation is in the model)"
        )
    if array.shape[-2:] != (rows, cols) and not (array.ndim == 2 and array.shape[1] == rows * cols):
        raise InvalidInputError(
            f"images have shape {array.shape}; expected [N, {rows}, {cols}], [{rows}, {cols}] or [N, {rows * cols}]"
        )
    if array.ndim > 3 or array.size == 0:
        raise InvalidInputError(f"images have shape {array.shape}; expected one image or N of them, N at least 1")
    if array.max() == 1:  # a model answers them all as if they were blank
        raise InvalidInputError(ZERO_OR_ONE)
    return np.ascontiguousarray(array.reshape(-1, rows * cols))


def part_size(info: GetModelResponse) -> int:
    """Most images in one request, by what the server says of itself."""
    pixels = info.manifest.image.rows * info.manifest.image.cols
    by_bytes = (info.serving.max_message_bytes - REQUEST_OVERHEAD) // pixels
    return max(1, min(info.serving.max_request_images, by_bytes))


def check_top_k(top_k: int, info: GetModelResponse) -> None:
    """Check a number of classes against the model that will answer.

    Raises:
        InvalidInputError: below 1, or more than the model has.
    """
    classes = len(info.manifest.labels)
    if not 1 <= top_k <= classes:
        raise InvalidInputError(f"top_k is {top_k}; expected 1 to {classes}, the model's number of classes")


def sizes(count: int, size: int) -> list[int]:
    """Images in each of the parts of at most `size` that `count` are cut into."""
    return [min(size, count - start) for start in range(0, count, size)]


def build(
    images: Images, size: int, *, model: str, version: int, options: Options, traffic: str = ""
) -> Iterator[bytes]:
    """Serialised PredictRequests of at most `size` images each, in order.

    Fields that follow one another as bytes are one message, so the pixels are copied once, and a request that names no
    model and no class count is the pixels behind a constant header, which the server knows without parsing. Nor does it
    parse one that says whose traffic it is in front of the pixels.
    """
    names = PredictRequest(model=model, version=version).SerializeToString() + TRAFFIC[traffic]
    # A default is not sent.
    top_k = 0 if options.top_k == 1 else options.top_k
    answer_fields = PredictRequest(
        top_k=top_k, probabilities=options.probabilities, timing=options.timing
    ).SerializeToString()
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield b"".join((names, IMAGES_TAG, _varint(part.nbytes), part.data, answer_fields))


def _varint(value: int) -> bytes:
    """Protobuf's variable-length form of a number."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
