"""Request bytes to arrays, arrays to reply bytes. Nothing here touches single pixels or single floats.

Legend: N images, D pixels, C classes, K classes returned for each image.
"""

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from mlpserve.v1.classifier_pb2 import PredictRequest
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_server.errors import InvalidRequest, UnknownModel
from mlpserve_server.model import LoadedModel, Predictions


def decode(payload: bytes, model: LoadedModel, max_request: int) -> PredictRequest:
    """Parse and check one request.

    Raises:
        InvalidRequest: it is not a PredictRequest, or a field is wrong.
        UnknownModel: it asks for another model or version.
    """
    try:
        request = PredictRequest.FromString(payload)
    except DecodeError as error:
        raise InvalidRequest("", "the message is not a mlpserve.v1.PredictRequest") from error
    check_model(request.model, request.version, model)
    size = len(request.images)
    if size == 0:
        raise InvalidRequest("images", "there are no images; send at least one")
    if size % model.pixels:
        image = model.version.manifest.image
        raise InvalidRequest(
            "images",
            f"{size} bytes are not a whole number of {image.rows}x{image.cols} images ({model.pixels} bytes each)",
        )
    count = size // model.pixels
    if count > max_request:
        raise InvalidRequest("images", f"{count} images in one request; this server takes at most {max_request}")
    if request.top_k > model.classes:
        raise InvalidRequest("top_k", f"{request.top_k} classes asked for; the model has {model.classes}")
    return request


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


def assemble(requests: list[PredictRequest], pixels: int) -> npt.NDArray[np.uint8]:
    """The images of several requests as one array [N, D]; a single request's bytes are not copied."""
    buffer = requests[0].images if len(requests) == 1 else b"".join([request.images for request in requests])
    return np.frombuffer(buffer, np.uint8).reshape(-1, pixels)


class ReplyEncoder:
    """Cuts the answers of one batch into replies.

    Args:
        model: the model that answered.
        predictions: of the whole batch.
    """

    def __init__(self, model: LoadedModel, predictions: Predictions) -> None:
        self._predictions = predictions
        # Serialised messages that follow one another merge when parsed, so the constant part is written once.
        self._prefix = PackedPredictResponse(model=model.ref, top_k=1).SerializeToString()
        self._model = model
        self._class_ids = predictions.class_ids.tobytes()
        self._scores = predictions.scores.tobytes()

    def encode(self, request: PredictRequest, start: int, stop: int) -> bytes:
        """The reply to a request whose images are rows `start` to `stop` of the batch."""
        if request.top_k > 1 or request.probabilities:
            return self._encode_more(request, start, stop)
        return (
            self._prefix
            + PackedPredictResponse(
                class_ids=self._class_ids[4 * start : 4 * stop], scores=self._scores[4 * start : 4 * stop]
            ).SerializeToString()
        )

    def _encode_more(self, request: PredictRequest, start: int, stop: int) -> bytes:
        probabilities = self._predictions.probabilities[start:stop]
        if request.top_k > 1:
            # Stable, so that ties go to the lower class id as in the graph's ArgMax.
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, : request.top_k]
            class_ids = best.astype("<u4").tobytes()
            scores = np.take_along_axis(probabilities, best, axis=1).tobytes()
        else:
            class_ids, scores = self._class_ids[4 * start : 4 * stop], self._scores[4 * start : 4 * stop]
        response = PackedPredictResponse(
            model=self._model.ref, top_k=max(request.top_k, 1), class_ids=class_ids, scores=scores
        )
        if request.probabilities:
            response.probabilities = probabilities.tobytes()
        return response.SerializeToString()
