"""What the batching loop knows of a codec.

Legend: N images, D pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mlpserve.v1.classifier_pb2 import Timing
from mlpserve_server.models.runners import Predictions

F = TypeVar("F")


class Request(NamedTuple, Generic[F]):
    """A checked request.

    Attributes:
        images: N × D bytes.
        size: N.
        form: of its answer, as its codec reads it.
        traffic: which of TRAFFIC it says that it is; None if it does not say.
    """

    images: bytes | memoryview
    size: int
    form: F
    traffic: int | None = None


class Plain(NamedTuple, Generic[F]):
    """What a request says by its prefix.

    Attributes:
        form: of its answer.
        traffic: which of TRAFFIC it says that it is; None if it does not say.
    """

    form: F
    traffic: int | None


class Codec(Protocol[F]):
    """Reads one method's requests and writes its replies, for one model."""

    def decode(self, payload: bytes) -> Request[F]:
        """Parse and check one request.

        Raises:
            InvalidRequest: it is not the method's message, or a field is wrong.
            UnknownModel: it asks for another model or version.
        """

    def plain(self) -> Mapping[bytes, Plain[F]]:
        """What stands before the pixels of requests that hold one image and nothing else.

        Another mapping when that changes; it stays small.
        """

    def encode_rows(self, form: F, predictions: Predictions) -> npt.NDArray[np.uint8]:
        """The replies to N requests of one image each, [N, R]; of a form that `plain` names."""

    def encode(
        self, requests: Sequence[Request[F]], predictions: Predictions, timing: Callable[[int], Timing]
    ) -> list[bytes]:
        """One reply for each request.

        Args:
            requests: at least one, as `decode` gave them.
            predictions: for all their images, in order.
            timing: of the request with a number; called for those that ask for it.
        """
