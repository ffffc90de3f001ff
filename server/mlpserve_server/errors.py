"""What can go wrong, along the way of a request and before the server serves.

    message ──▶ images ──▶ queue ──▶ run
       │           │          │        └─ RunFailed
       │           │          └─ Overloaded, Expired
       │           └─ InvalidRequest, UnknownModel
       └─ MessageTooLarge, InvalidRequest          NotReady, Draining, Unauthenticated: before all that

CallError      ends one call, with a gRPC code and google.rpc details
StartupError   ends the server before it serves, with a sentence for the person who started it
"""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

DETAILS_KEY = "grpc-status-details-bin"


class CallError(Exception):
    """Ends one call.

    Attributes:
        code: the gRPC status code.
        details: a google.rpc detail message, or None.
    """

    code = StatusCode.INTERNAL
    details: BadRequest | RetryInfo | None = None

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The rich error model's trailer (google.rpc.Status), empty when there are no details."""
        if self.details is None:
            return ()
        packed = Any()
        packed.Pack(self.details)
        status = Status(code=self.code.value[0], message=str(self), details=[packed])
        return ((DETAILS_KEY, status.SerializeToString()),)


class InvalidRequest(CallError):
    """A field of the request is wrong."""

    code = StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        violation = BadRequest.FieldViolation(field=field, description=message)
        self.details = BadRequest(field_violations=[violation])


class MessageTooLarge(CallError):
    """The message is larger than the server accepts; the code is the one that gRPC itself uses."""

    code = StatusCode.RESOURCE_EXHAUSTED


class UnknownModel(CallError):
    """The model or version is not the one that is served."""

    code = StatusCode.NOT_FOUND


class Unsupported(CallError):
    """The method exists in the protocol, and this server does it in another way, or not just now."""

    code = StatusCode.UNIMPLEMENTED


class Unauthenticated(CallError):
    """The call has no token, or none that is accepted."""

    code = StatusCode.UNAUTHENTICATED


class Overloaded(CallError):
    """The queue is full, or longer than the call can wait.

    Args:
        message: for the caller.
        retry_after: seconds until it is worth trying again.
    """

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        delay = Duration()
        delay.FromMilliseconds(max(1, round(retry_after * 1000)))
        self.details = RetryInfo(retry_delay=delay)


class Expired(CallError):
    """The deadline passed while the call waited."""

    code = StatusCode.DEADLINE_EXCEEDED


class NotReady(CallError):
    """No model has been proven yet."""

    code = StatusCode.UNAVAILABLE


class Draining(CallError):
    """The server finishes what it has accepted and takes nothing new."""

    code = StatusCode.UNAVAILABLE


class StoreSilent(CallError):
    """The call needs the store, which does not answer."""

    code = StatusCode.UNAVAILABLE


class RunFailed(CallError):
    """ONNX Runtime failed on this batch."""

    code = StatusCode.INTERNAL


class StartupError(Exception):
    """Ends the server before it serves; the message says what was wrong, what was expected and what to do.

    Attributes:
        page: where the documentation explains it.
    """

    page = "docs/serving.md#startup-and-warm-up"


class ConfigError(StartupError):
    """A flag has a value that cannot work."""

    page = "docs/serving.md"


class StoreError(StartupError):
    """The store, the model or the version is missing or cannot be read."""


class VersionMissing(StoreError):
    """The store answers, and does not have the version."""


class ArtifactError(StartupError):
    """A file of the version is damaged, or the model does not give its golden answers."""

    page = "docs/serving.md#model-verification-and-signatures"


class DeviceError(StartupError):
    """The device asked for is not there."""

    page = "docs/gpu.md#serving"


class ListenError(StartupError):
    """An address cannot be listened on."""

    page = "docs/serving.md#authentication-and-tls"


def first_line(error: Exception) -> str:
    """What an exception of a library says, or what it is called; ONNX Runtime's messages go on with a stack trace."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
