"""Every exception that the client raises.

MlpserveError
├── InvalidInputError          the images cannot be sent as they are; raised before anything is sent
├── ModelChangedError          the parts of one large array were answered by different versions
├── ClientClosedError          the client was closed before or while it was called
└── ServerError                the server or the way to it failed; has the gRPC code
    ├── InvalidRequestError    INVALID_ARGUMENT; names the field
    ├── ModelNotFoundError     NOT_FOUND
    ├── UnauthenticatedError   UNAUTHENTICATED
    ├── OverloadedError        RESOURCE_EXHAUSTED with RetryInfo; says when to come back
    ├── MessageTooLargeError   RESOURCE_EXHAUSTED without
    ├── DeadlineExceededError  DEADLINE_EXCEEDED
    ├── UnavailableError       UNAVAILABLE
    └── InvalidResponseError   the server answered, and what it says cannot be
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
    """The images cannot be sent as they are."""


class ModelChangedError(MlpserveError):
    """The parts of one large array were answered by different versions; call again, or pin a version."""


class ClientClosedError(MlpserveError):
    """The client was closed, or what sends its calls was cancelled, before the call had an answer; use a new client."""


class ServerError(MlpserveError):
    """A call failed.

    Attributes:
        code: the gRPC status code.
        target: the server's address.
        field: the request's field that is wrong, or "".
        retry_after: seconds that the server asks to wait, or None.
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
        # Exceptions are pickled by their arguments, which here are not those of __init__.
        return type(self), (str(self), self.code, self.target, self.field, self.retry_after)


class InvalidRequestError(ServerError):
    """The server refused a field of the request."""


class ModelNotFoundError(ServerError):
    """The server does not serve this model or version."""


class UnauthenticatedError(ServerError):
    """The server wants a token, and the client has none or one that it does not accept."""


class OverloadedError(ServerError):
    """The server's queue is full."""


class MessageTooLargeError(ServerError):
    """The request is larger than the server accepts."""


class DeadlineExceededError(ServerError):
    """The timeout passed before an answer came."""


class UnavailableError(ServerError):
    """The server cannot be reached, is still loading its model, or is shutting down."""


class InvalidResponseError(ServerError):
    """What the server answers is not what the contract, its own description of the model and the request allow.

    Its code is INTERNAL. Nothing of such an answer is returned.
    """


_BY_CODE: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}


def from_rpc_error(error: grpc.RpcError, target: str) -> ServerError:
    """The client's exception for a failed call; the one place where gRPC's errors are translated."""
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
            # Not by this caller, whose own cancelling ends otherwise: a server or proxy that goes away resets calls so.
            code = grpc.StatusCode.UNAVAILABLE
        kind = _BY_CODE.get(code, ServerError)
    return kind(f"{target}: {printable(error.details() or code.name)}", code, target, field, retry_after)


def printable(text: str) -> str:
    """A server's text as a log or a terminal may show it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _details(error: grpc.RpcError) -> list[AnyMessage]:
    metadata: Iterable[Any] = error.trailing_metadata() or ()  # pairs, which their stubs do not say
    for key, value in metadata:
        if key == DETAILS_KEY:
            return list(Status.FromString(value).details)
    return []
