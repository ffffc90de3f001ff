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

from typing import Any

import grpc


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
