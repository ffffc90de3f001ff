"""Validate responses against the model's description and the request before a caller sees them.

The server may be broken, newer than this client, or not an mlpserve server at all. Unknown fields are ignored; known
fields must satisfy the contract.

Legend: N images, C classes, K classes returned for each image.
"""

import math
import re
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from mlpserve.v1.classifier_pb2 import GetModelResponse, ListModelsResponse, ModelRef
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_client.errors import InvalidResponseError, ModelChangedError
from mlpserve_client.messages.encoding import Images, Options
from mlpserve_client.messages.predictions import ModelId, Predictions, Timing

MOST_PIXELS = 1 << 24  # of one image
MOST_SCORE = 1.0001  # a softmax in half precision rounds
MOST_SCORE_BITS = int(np.float32(MOST_SCORE).view(np.uint32))
SUM_TOLERANCE = 0.01  # of a row of probabilities
FEW = 32  # values; for fewer than this Python is faster than numpy
MOST_DESCRIBED = 64  # artifacts whose class names are kept
DIGEST = re.compile(r"[0-9a-f]{64}")

M = TypeVar("M", bound=Message)
Scores = npt.NDArray[np.float32]


class Responses:
    """Decodes and validates the responses of one server.

    Args:
        target: the server's address, for errors.
        model, version: which must answer; "" and 0 for whatever the server serves.
    """

    def __init__(self, target: str, model: str, version: int) -> None:
        self._target = target
        self._model = model
        self._version = version
        self._classes: dict[str, tuple[str, ...]] = {}  # names by digest of the artifact

    def classes(self, digest: str) -> tuple[str, ...]:
        """Names of an artifact's classes, by number; empty for one that the server has not described."""
        return self._classes.get(digest, ())

    def info(self, content: bytes) -> GetModelResponse:
        """Decode the response of GetModel.

        Raises:
            InvalidResponseError: it describes no usable model, or not the requested one.
        """
        info = self._read(GetModelResponse, content)
        self._check_ref(info.model)
        image, serving = info.manifest.image, info.serving
        if not (image.rows and image.cols and image.rows * image.cols <= MOST_PIXELS):
            self._refuse(f"images of {image.rows}x{image.cols} pixels", f"1 to {MOST_PIXELS:,} pixels")
        if not info.manifest.labels:
            self._refuse("a model without labels", "one label for each class")
        if not serving.max_request_images:
            self._refuse("max_request_images 0", "at least 1")
        if serving.max_message_bytes < image.rows * image.cols:
            self._refuse(f"max_message_bytes {serving.max_message_bytes:,}", "room for one image at least")
        for evaluation in info.manifest.evaluations:
            self._check_share("test_accuracy", evaluation.test_accuracy)
        if len(self._classes) >= MOST_DESCRIBED:
            self._classes = {}
        self._classes[info.model.digest] = tuple(info.manifest.labels)
        return info

    def listed(self, content: bytes) -> ListModelsResponse:
        """Decode the response of ListModels.

        Raises:
            InvalidResponseError: an entry is not a valid version.
        """
        listed = self._read(ListModelsResponse, content)
        for summary in listed.models:
            if not summary.model.name or not summary.model.version:
                self._refuse("a list with an entry that has no name or version", "a model's name and version, from 1")
            self._check_share("test_accuracy", summary.test_accuracy)
        return listed

    def predict(self, content: bytes) -> PackedPredictResponse:
        """Decode the response of Predict; `join` validates its columns.

        Raises:
            InvalidResponseError: it cannot be decoded.
        """
        return self._read(PackedPredictResponse, content)

    def join(
        self, answers: list[PackedPredictResponse], sizes: list[int], options: Options, info: GetModelResponse
    ) -> Predictions:
        """Validate the responses for the parts of an array, and join them.

        Args:
            answers: one per part.
            sizes: images in each part.
            options: of the call.
            info: the model's description, which the answers must match.

        Raises:
            InvalidResponseError: they do not match.
            ModelChangedError: different versions answered.
        """
        first = answers[0]
        if not same_model(answers):
            versions = ", ".join(sorted({str(answer.model.version) for answer in answers}))
            raise ModelChangedError(
                f"versions {versions} of {first.model.name!r} replaced one another between the parts of this "
                "call; call again, or pin the version"
            )
        if first.model != info.model:
            self._check_other(first.model, info.model)
        classes, per_image = len(info.manifest.labels), options.top_k
        for answer, size in zip(answers, sizes, strict=True):
            if answer.top_k != per_image:
                self._refuse(f"{answer.top_k} classes for each image", f"top_k {per_image}")
            self._check_length("class_ids", answer.class_ids, size * per_image)
            self._check_length("scores", answer.scores, size * per_image)
            if options.probabilities:
                self._check_length("probabilities", answer.probabilities, size * classes)
        ids = np.frombuffer(b"".join([answer.class_ids for answer in answers]), "<u4")
        scores = np.frombuffer(b"".join([answer.scores for answer in answers]), "<f4")
        self._check_ids(ids, classes, per_image)
        self._check_shares("score", scores, per_image)
        class_ids = ids.astype(np.int64)
        if per_image > 1:
            class_ids, scores = class_ids.reshape(-1, per_image), scores.reshape(-1, per_image)
            self._check_order(class_ids, scores)
        probabilities = None
        if options.probabilities:
            probabilities = np.frombuffer(b"".join([answer.probabilities for answer in answers]), "<f4")
            self._check_shares("probability", probabilities, classes)
            probabilities = probabilities.reshape(-1, classes)
            self._check_rows(class_ids, scores, probabilities)
        model = ModelId(first.model.name, first.model.version, first.model.digest)
        timing = self._timing(answers) if options.timing else None
        return Predictions(class_ids, scores, probabilities, model, timing, self.classes(model.digest))

    def _read(self, kind: type[M], content: bytes) -> M:
        try:
            return kind.FromString(content)
        except DecodeError:
            self._refuse(f"{len(content):,} bytes that cannot be read", f"a {kind.DESCRIPTOR.name}")

    def _check_ref(self, ref: ModelRef) -> None:
        if not ref.name or not ref.name.isprintable() or not ref.version or not DIGEST.fullmatch(ref.digest):
            self._refuse(
                f"the model {ref.name[:40]!r} version {ref.version} with digest {ref.digest[:70]!r}",
                "a name, a version from 1 and a SHA-256 in lower-case hexadecimal",
            )
        if (self._model and ref.name != self._model) or (self._version and ref.version != self._version):
            wanted = repr(self._model or ref.name) + (f" version {self._version}" if self._version else "")
            self._refuse(f"it is of {ref.name[:40]!r} version {ref.version}", f"{wanted}, which the call requested")

    def _check_other(self, ref: ModelRef, described: ModelRef) -> None:
        """Check an answer by another artifact than the described one: model and pin must match."""
        self._check_ref(ref)
        if ref.name != described.name:
            self._refuse(f"it is of {ref.name[:40]!r}", f"{described.name[:40]!r}, which the server says it serves")
        if self._version and ref.digest != described.digest:
            self._refuse(
                f"version {ref.version} with digest {ref.digest[:12]}", f"{described.digest[:12]}, as it was described"
            )

    def _check_length(self, name: str, column: bytes, count: int) -> None:
        if len(column) != 4 * count:
            self._refuse(f"{name} of {len(column):,} bytes", f"{4 * count:,}, four for each of {count:,} values")

    def _check_ids(self, ids: npt.NDArray[np.uint32], classes: int, per_image: int) -> None:
        largest = max(ids.tolist()) if len(ids) <= FEW else int(np.maximum.reduce(ids))
        if largest >= classes:
            first = int(np.argmax(ids >= classes))
            found = f"class {ids[first]} for image {first // per_image}"
            self._refuse(found, f"0 to {classes - 1}, the model's classes")

    def _check_shares(self, name: str, values: Scores, per_image: int) -> None:
        """Check that all values are between 0 and 1."""
        if len(values) <= FEW:
            good = all(0 <= value <= MOST_SCORE for value in values.tolist())
        else:
            # As unsigned integers, floats from 0 on keep their order, and negative ones, infinity and NaN are larger.
            good = int(np.maximum.reduce(values.view("<u4"))) <= MOST_SCORE_BITS
        if not good and not ((values >= 0) & (values <= MOST_SCORE)).all():
            worst = int(np.argmin((values >= 0) & (values <= MOST_SCORE)))
            self._refuse(f"the {name} {values[worst]:g} for image {worst // per_image}", "0 to 1")

    def _check_order(self, class_ids: npt.NDArray[np.int64], scores: Scores) -> None:
        if (scores[:, 1:] > scores[:, :-1]).any():
            self._refuse("scores that rise within an image", "the best class first")
        for apart in range(1, class_ids.shape[1]):
            if (class_ids[:, apart:] == class_ids[:, :-apart]).any():
                self._refuse("the same class twice for one image", "different classes")

    def _check_rows(self, class_ids: npt.NDArray[np.int64], scores: Scores, probabilities: Scores) -> None:
        """Check that the probabilities are distributions, and consistent with classes and scores."""
        count, classes = probabilities.shape
        sums = probabilities.dot(np.ones(classes, np.float32))
        off = np.abs(sums - 1)
        if np.maximum.reduce(off) > SUM_TOLERANCE:
            row = int(off.argmax())
            self._refuse(f"probabilities that sum to {sums[row]:g} for image {row}", "1")
        places = class_ids.reshape(count, -1) + np.arange(0, count * classes, classes)[:, None]
        of_classes = probabilities.ravel()[places.ravel()]
        if np.maximum.reduce(np.abs(of_classes - scores.ravel())) > SUM_TOLERANCE:
            self._refuse("scores that are not the probabilities of their classes", "the same numbers")

    def _timing(self, answers: list[PackedPredictResponse]) -> Timing | None:
        """The timing, or None if the server does not support it."""
        if not all(answer.HasField("timing") for answer in answers):
            return None
        parts = [answer.timing for answer in answers]
        for seconds in (seconds for part in parts for seconds in (part.queue_seconds, part.run_seconds)):
            if not 0 <= seconds < math.inf:
                self._refuse(f"a timing of {seconds:g} s", "0 or more")
        return Timing(
            sum(part.queue_seconds for part in parts),
            sum(part.run_seconds for part in parts),
            max(part.batch_images for part in parts),
        )

    def _check_share(self, name: str, value: float) -> None:
        if not 0 <= value <= 1:
            self._refuse(f"{name} {value:g}", "0 to 1")

    def _refuse(self, found: str, expected: str) -> NoReturn:
        raise InvalidResponseError(
            f"{self._target}: the server's response is invalid: {found}; expected {expected}. Nothing of it was "
            "used. Is it an mlpserve server of this contract? `mlpserve doctor` and the server's log say more",
            grpc.StatusCode.INTERNAL,
            self._target,
        )


def same_model(answers: list[PackedPredictResponse]) -> bool:
    """Whether the same version answered all parts of an array."""
    return len(answers) == 1 or all(answer.model == answers[0].model for answer in answers)


def model_id(info: GetModelResponse) -> ModelId:
    """The artifact that a description is of."""
    return ModelId(info.model.name, info.model.version, info.model.digest)


def check_size(images: Images, info: GetModelResponse) -> None:
    """Check that images [N, D] still have the model's size.

    Raises:
        ModelChangedError: they do not.
    """
    image = info.manifest.image
    if images.shape[1] != image.rows * image.cols:
        raise ModelChangedError(
            f"the model's image size has changed: {images.shape[1]} pixels were sent, version {info.model.version} "
            f"takes {image.rows}x{image.cols}; call again"
        )


def value_name(kind: Any, value: int) -> str:
    """The name of an enum value, for people; "unknown (7)" for a value that only a newer server has.

    Args:
        kind: a protobuf enum, whose values are named ENUM_NAME_VALUE.
        value: its number.
    """
    found = kind.DESCRIPTOR.values_by_number.get(value)
    if found is None:
        return f"unknown ({value})"
    prefix: str = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.DESCRIPTOR.name).upper() + "_"
    name: str = found.name
    return name.removeprefix(prefix).lower()
