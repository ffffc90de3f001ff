"""gRPC channels: options, TLS and the token, the same for both clients."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import grpc

from mlpserve_client.connection.endpoint import Endpoint, Pem
from mlpserve_client.connection.targets import addresses, has_port, is_local
from mlpserve_client.errors import InvalidInputError

LARGEST_ANSWER = 256 << 20  # bytes: of 4,096 images with all probabilities of 10,000 classes, and half as much again
# Calls go round the addresses that a target resolves to (dns:///name, or a list), without those whose health is bad.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "mlpserve.v1.ClassifierService"},
}
_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A name is asked again when a connection ends; new replicas are found within so long of that.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Sizes of requests are the server's to limit: it says in GetModel what it takes, and they are cut to that.
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    ("grpc.max_send_message_length", -1),
    # Retries are the client's own: one clock, and only where they are safe.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A dead connection is noticed while a call waits on it; servers refuse pings that come more often.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
# http_proxy, https_proxy, grpc_proxy and GRPC_ADDRESS_HTTP_PROXY name another host, whose loopback would answer.
_NO_PROXY: list[tuple[str, int | str]] = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.address_http_proxy_enabled_addresses", ""),
]


class ChannelConfig(NamedTuple):
    """What a channel is opened with, and what goes with each call.

    Attributes:
        credentials: for TLS; None for plaintext.
        options: of gRPC's channel.
        metadata: of each call.
    """

    credentials: grpc.ChannelCredentials | None
    options: list[tuple[str, int | str]]
    metadata: tuple[tuple[str, str], ...]


def channel_config(endpoint: Endpoint) -> ChannelConfig:
    """How to open a channel to an endpoint.

    Raises:
        InvalidInputError: a file cannot be read, or a token would travel where others can read it.
    """
    target, tls, token = endpoint.target, endpoint.tls, endpoint.token
    if not target or not target.isprintable():
        raise InvalidInputError(f"the target {target!r} is no address; expected HOST:PORT or a name that gRPC resolves")
    if url := re.match(r"(https?|grpcs?)://([^/]*)", target):
        tls_too = " with tls=Tls() (--tls)" if url[1].endswith("s") else ""
        raise InvalidInputError(f"the target {target!r} is a URL; expected HOST:PORT, here {url[2]!r}{tls_too}")
    for address in addresses(target):
        if has_port(address) and not 0 < int(address.rpartition(":")[2]) < 65536:
            raise InvalidInputError(f"the target {target!r} has a port that cannot be; expected 1 to 65535")
    local = is_local(target)
    if token and tls is None and not endpoint.token_over_plaintext and not local:
        raise InvalidInputError(
            f"a token for {target} would travel unencrypted to other hosts: use TLS, or token_over_plaintext where "
            "something between encrypts; only loopback addresses, localhost and unix: need neither"
        )
    if not token.isascii() or not token.isprintable():
        raise InvalidInputError("the token has characters that a header cannot carry; expected printable ASCII")
    options = [*_OPTIONS, *_NO_PROXY] if local else _OPTIONS
    if len(addresses(target)) > 1:
        # gRPC would send the whole list as the host's name, which HTTP/2 servers refuse.
        options = [*options, ("grpc.default_authority", "mlpserve")]
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    if tls is None:
        return ChannelConfig(None, options, metadata)
    if (tls.cert is None) != (tls.key is None):
        raise InvalidInputError("a certificate and its key go together")
    credentials = grpc.ssl_channel_credentials(
        _pem(tls.ca, "CERTIFICATE"), _pem(tls.key, "PRIVATE KEY"), _pem(tls.cert, "CERTIFICATE")
    )
    name: list[tuple[str, int | str]] = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return ChannelConfig(credentials, [*options, *name], metadata)


def _pem(source: Pem | None, kind: str) -> bytes | None:
    """The content of a PEM file.

    Args:
        source: path or content; None for nothing.
        kind: what must be in it, "CERTIFICATE" or "PRIVATE KEY".
    """
    if source is None:
        return None
    if isinstance(source, bytes):
        content, name = source, "the PEM in bytes"
    else:
        name = str(source)
        try:
            content = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInputError(f"{name} cannot be read: {reason}; expected a PEM file") from error
    # As it is, gRPC would say of a file of another kind that the connection failed.
    if not re.search(rb"-----BEGIN [A-Z ]*" + kind.encode(), content):
        raise InvalidInputError(f"{name} holds no {kind.lower()}; expected PEM, with a line -----BEGIN {kind}-----")
    return content
