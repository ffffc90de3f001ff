"""Every exception that the client raises.

MlpserveError
├── InvalidInputError          the input is invalid; raised before anything is sent
├── ModelChangedError          different versions answered the parts of one large array
├── ClientClosedError          the client was closed before or during the call
└── ServerError                the server or the connection failed; has the gRPC code
    ├── InvalidRequestError    INVALID_ARGUMENT; names the field
    ├── ModelNotFoundError     NOT_FOUND
    ├── UnauthenticatedError   UNAUTHENTICATED
    ├── OverloadedError        RESOURCE_EXHAUSTED with RetryInfo: when to retry
    ├── MessageTooLargeError   RESOURCE_EXHAUSTED without RetryInfo
    ├── DeadlineExceededError  DEADLINE_EXCEEDED
    ├── UnavailableError       UNAVAILABLE
    └── InvalidResponseError   the server's response violates the contract
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

DETAILS_KEY = "grpc-status-details-bin"


class MlpserveError(Exception):
    """Base of every error of the client.

    Attributes:
        page: where the documentation explains it.
    """

    page = "docs/client.md#errors"


class InvalidInputError(MlpserveError, ValueError):
    """The input is invalid, for example images of the wrong size; nothing was sent."""


class ModelChangedError(MlpserveError):
    """Different versions answered the parts of one large array; call again, or pin a version."""


class ClientClosedError(MlpserveError):
    """The client was closed, or the task that sends its calls was cancelled, before the answer came."""


class ServerError(MlpserveError):
    """A call failed.

    Attributes:
        code: the gRPC status code.
        target: the server's address.
        field: the invalid field of the request, or "".
        retry_after: seconds after which the server asks to retry, or None.
    """

    def __init__(
        self, message: str, code: grpc.StatusCode, target: str, field: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.target = target
        self.field = field
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle passes an exception's args to __init__, which has other parameters here.
        return type(self), (str(self), self.code, self.target, self.field, self.retry_after)


class InvalidRequestError(ServerError):
    """A field of the request is invalid."""


class ModelNotFoundError(ServerError):
    """The server does not serve this model or version."""


class UnauthenticatedError(ServerError):
    """The server requires a token, and the client has none or a wrong one."""


class OverloadedError(ServerError):
    """The server's queue is full."""


class MessageTooLargeError(ServerError):
    """The request is larger than the server accepts."""


class DeadlineExceededError(ServerError):
    """The deadline passed before the answer came."""


class UnavailableError(ServerError):
    """The server cannot be reached, is still loading its model, or is shutting down."""


class InvalidResponseError(ServerError):
    """The response contradicts the contract, the server's description of the model, or the request.

    Its code is INTERNAL. The client discards such a response.
    """


_BY_CODE: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}


def from_rpc_error(error: grpc.RpcError, target: str) -> ServerError:
    """Translate a gRPC error into the client's exception; the only place that does so."""
    code: grpc.StatusCode = error.code()
    field, retry_after = "", None
    with suppress(DecodeError):  # details of another kind; code and message stand without them
        for detail in _details(error):
            if detail.Is(BadRequest.DESCRIPTOR):
                bad = BadRequest.FromString(detail.value)
                field = printable(bad.field_violations[0].field) if bad.field_violations else ""
            elif detail.Is(RetryInfo.DESCRIPTOR):
                retry_after = max(RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds() / 1000, 0.0)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        kind: type[ServerError] = MessageTooLargeError if retry_after is None else OverloadedError
    else:
        if code is grpc.StatusCode.CANCELLED:
            # Not cancelled by this caller, which ends otherwise: servers and proxies that go away reset calls this way.
            code = grpc.StatusCode.UNAVAILABLE
        kind = _BY_CODE.get(code, ServerError)
    return kind(f"{target}: {printable(error.details() or code.name)}", code, target, field, retry_after)


def printable(text: str) -> str:
    """Make a server's text safe for logs and terminals."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _details(error: grpc.RpcError) -> list[AnyMessage]:
    metadata: Iterable[Any] = error.trailing_metadata() or ()  # pairs, which their stubs do not say
    for key, value in metadata:
        if key == DETAILS_KEY:
            return list(Status.FromString(value).details)
    return []
