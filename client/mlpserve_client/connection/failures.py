"""Failed calls in the words of a caller: what is wrong and what to do, then gRPC's own text.

gRPC reports where it noticed a failure ("Socket closed"); what it means depends on how the caller connects.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from mlpserve.shown import shown
from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.connection.proxies import proxy_of
from mlpserve_client.connection.targets import addresses, has_port
from mlpserve_client.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MessageTooLargeError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)

DETAILS_KEY = "grpc-status-details-bin"

_BY_CODE: dict[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}
_TLS = "--tls or --tls-ca FILE, tls=Tls(…) in Python"
# What gRPC says of a connection that it cannot make, and what that means; the first that is found counts.
_UNREACHABLE = [
    (
        r"Domain name not found|address lookup failed|errors resolving|[Nn]ame or service not known",
        "this name has no address: check its spelling, or give an IP address",
    ),
    (
        r"WRONG_VERSION_NUMBER",
        f"the server there does not speak TLS: connect without it (leave out {_TLS}), or check the port",
    ),
    (
        r"Hostname Verification Check failed",
        "the server's certificate is for another name: connect by a name in it, or give one (--tls-server-name, "
        "Tls(server_name=…))",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the server's certificate is signed by no authority that this caller trusts, or has expired: give the "
        "authority's certificate (--tls-ca FILE, Tls(ca=…))",
    ),
    (
        r"HTTP proxy",
        "a proxy did not connect to it: name the server in no_proxy to go past the proxy",
    ),
    (
        r"Failed parsing HTTP/2|[Ii]nvalid HTTP|Received http2 header with status",
        "something else than a gRPC server listens there: check the port",
    ),
    (
        r"Connection refused",
        "nothing listens there: start the server, or check the address and the port",
    ),
    (
        r"connect failed.*No such file",
        "there is no such socket: start the server, or check the path",
    ),
    (
        r"No route to host|Network is unreachable|[Nn]etwork unreachable",
        "no network leads there: check the address, the network and the VPN",
    ),
    (
        r"[Tt]imed out|[Tt]imeout occurred|Connection timed out",
        "nothing answers there: check the address, and whether a firewall drops the packets",
    ),
]

LONGEST_DETAILS = 2000  # characters of a server's words


def from_rpc_error(error: grpc.RpcError, endpoint: Endpoint, timeout: float | None = None) -> ServerError:
    """Translate a gRPC error into the client's exception; the only place that does so.

    Args:
        error: of a call.
        endpoint: that was called.
        timeout: seconds that the caller gave the whole call, for the message; None where it is not known.
    """
    code: grpc.StatusCode = error.code()
    field, retry_after = "", None
    with suppress(DecodeError):  # details of another kind; code and message stand without them
        for detail in _details(error):
            if detail.Is(BadRequest.DESCRIPTOR):
                bad = BadRequest.FromString(detail.value)
                field = shown(bad.field_violations[0].field) if bad.field_violations else ""
            elif detail.Is(RetryInfo.DESCRIPTOR):
                retry_after = max(RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds() / 1000, 0.0)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        kind: type[ServerError] = MessageTooLargeError if retry_after is None else OverloadedError
    else:
        if code is grpc.StatusCode.CANCELLED:
            # Not cancelled by this caller, which ends otherwise: servers and proxies that go away reset calls this way.
            code = grpc.StatusCode.UNAVAILABLE
        kind = _BY_CODE.get(code, ServerError)
    said = shown(error.details() or code.name, LONGEST_DETAILS)
    meaning = explain(code, said, endpoint, timeout)
    who = "The server" if code is grpc.StatusCode.UNAUTHENTICATED else "gRPC"
    message = f"{endpoint.target}: {meaning}. {who} says: {said}" if meaning else f"{endpoint.target}: {said}"
    return kind(message, code, endpoint.target, field, retry_after)


def explain(code: grpc.StatusCode, said: str, endpoint: Endpoint, timeout: float | None = None) -> str:
    """What a status means to this caller, and what to do; "" where the server's own words say it.

    Args:
        code: of the status.
        said: its message.
        endpoint: that was called.
        timeout: seconds that the caller gave the whole call; None where it is not known.
    """
    if code is grpc.StatusCode.UNAUTHENTICATED:
        if endpoint.token:
            return (
                "the server does not accept this token: give one that it knows (--token-file FILE, token=… in Python)"
            )
        return "the server wants a token, and none was given: --token-file FILE, token=… in Python"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "a gRPC server answers there, but not one of mlpserve, or one of another version: check the port"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return too_late(timeout) + _proxy_remark(endpoint.target)
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ""
    meaning = _unreachable(said, endpoint)
    return meaning + _proxy_remark(endpoint.target) if meaning else ""


def too_late(timeout: float | None) -> str:
    """The sentence for a deadline that has passed."""
    within = "before the deadline" if timeout is None else f"within {timeout:.3g} s"
    return (
        f"no answer {within}: give the call longer (--timeout, timeout=…), or see whether the server is busy or the "
        "address is another service's (mlpserve doctor)"
    )


def _unreachable(said: str, endpoint: Endpoint) -> str:
    meaning = next((meaning for words, meaning in _UNREACHABLE if re.search(words, said)), "")
    if meaning:
        return meaning + _port_remark(endpoint.target)
    if "security handshaker" in said:
        return "TLS cannot begin with these files: check the authorities, the certificate and its key"
    if re.search(r"Socket closed|[Cc]onnection reset|Broken pipe|handshake failed|End of TCP stream", said):
        if endpoint.tls is None:
            return f"the connection was closed: the server may want TLS ({_TLS}), or is restarting"
        if endpoint.tls.cert is None:
            return (
                "the connection was closed: the server may want the caller's certificate (--tls-cert and --tls-key, "
                "Tls(cert=…, key=…)), or is restarting"
            )
        return "the connection was closed: the server may not accept the caller's certificate, or is restarting"
    return ""


def _port_remark(target: str) -> str:
    """Without a port gRPC takes 443, which hardly anybody means."""
    if target.startswith("unix") or any(has_port(address) for address in addresses(target)):
        return ""
    return " (no port was given, and gRPC takes 443; mlpserve's own is 50051)"


def _proxy_remark(target: str) -> str:
    proxy = proxy_of(target)
    return f" (the call goes through the proxy that {proxy} names; no_proxy lists hosts without one)" if proxy else ""


def _details(error: grpc.RpcError) -> list[AnyMessage]:
    metadata: Iterable[Any] = error.trailing_metadata() or ()  # pairs, which their stubs do not say
    for key, value in metadata:
        if key == DETAILS_KEY:
            return list(Status.FromString(value).details)
    return []
