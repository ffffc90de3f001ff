"""TLS from files that may be renewed while the server runs, and the rule that nothing is exposed without it."""

import ipaddress
import logging
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import ConfigError
from mlpserve_server.transports.watched_files import Unread, WatchedFiles

log = logging.getLogger(__name__)


def check_plaintext(config: ServerConfig) -> None:
    """Refuse to serve other hosts without encryption, unless told to.

    Raises:
        ConfigError: the address can be reached from other hosts and there is no TLS.
    """
    host, _ = split_address(config.listen, "--listen")
    if config.tls_cert or config.allow_plaintext or is_loopback(host):
        return
    raise ConfigError(
        f"--listen {config.listen} can be reached from other hosts and nothing would be encrypted. Give --tls-cert and "
        "--tls-key, listen on 127.0.0.1, or, where a proxy or a private network does the encrypting, --allow-plaintext"
    )


def check_callers(config: ServerConfig) -> None:
    """Refuse to serve strangers over grpcio, unless told that there are none.

    One call with a malformed method name ends gRPC's own server, and calls under way with it; this happens before a
    token can be asked for. Behind `--allow-plaintext` there is a proxy or a private network.

    Raises:
        ConfigError: strangers may reach the address.
    """
    host, _ = split_address(config.listen, "--listen")
    known = config.tls_client_ca or config.trusted_callers or config.allow_plaintext
    if known or is_loopback(host):
        return
    raise ConfigError(
        f"--listen {config.listen} can be reached from other hosts, and over grpcio any of them can end the calls of "
        "the others with one malformed call. Use --transport wire (`make wire` builds it), ask for certificates with "
        "--tls-client-ca, or, where only known callers reach the port, give --trusted-callers"
    )


def is_loopback(host: str) -> bool:
    """Whether only this host can reach what listens on a host's name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Pem(NamedTuple):
    """The contents of the configured files, which go together.

    Attributes:
        chain: certificates, the server's own first.
        key: of that one, not encrypted.
        authorities: that sign clients' certificates; empty: clients need none.
    """

    chain: bytes
    key: bytes
    authorities: bytes


def watch(config: ServerConfig, renew: Callable[[Pem], None]) -> tuple[Pem, WatchedFiles]:
    """Read the configured files, and watch them.

    Args:
        config: names them.
        renew: told of what they hold when they have changed.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """

    def read_again() -> None:
        try:
            renew(_read(config))
        except ConfigError as error:
            log.error("the certificates stay as they were: %s", error)
            raise Unread from error
        else:
            log.info("--tls-cert %s: the certificates were read again", config.tls_cert)

    paths = [config.tls_cert, config.tls_key, *([config.tls_client_ca] if config.tls_client_ca else [])]
    return _read(config), WatchedFiles(f"--tls-cert {config.tls_cert}", read_again, *paths)


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials:
    """TLS for grpcio; a handshake has the files looked at, and those after it have what they hold then.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """
    renewed: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)
    pem, files = watch(config, lambda pem: renewed.append(_configuration(pem)))

    def fetch() -> "grpc.ServerCertificateConfiguration | None":
        files.look()
        try:
            return renewed.pop()
        except IndexError:
            return None

    # None means "as before", which the stubs do not say.
    return grpc.dynamic_ssl_server_credentials(_configuration(pem), fetch, bool(pem.authorities))  # type: ignore[arg-type]


def _configuration(pem: Pem) -> "grpc.ServerCertificateConfiguration":
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], root_certificates=pem.authorities or None)


def _read(config: ServerConfig) -> Pem:
    # Python's own TLS says what is wrong with a file; others would only fail every handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--tls-cert {config.tls_cert} with --tls-key {config.tls_key}: {error}; expected a PEM certificate chain "
            "and its private key, not encrypted"
        ) from error
    authorities = b""
    if config.tls_client_ca:
        try:
            context.load_verify_locations(config.tls_client_ca)
            authorities = Path(config.tls_client_ca).read_bytes()
        except OSError as error:
            raise ConfigError(f"--tls-client-ca {config.tls_client_ca}: {error}; expected PEM certificates") from error
    try:
        return Pem(Path(config.tls_cert).read_bytes(), Path(config.tls_key).read_bytes(), authorities)
    except OSError as error:  # replaced, or out of descriptors, since they were looked at
        raise ConfigError(f"--tls-cert {config.tls_cert} with --tls-key {config.tls_key}: {error}") from error
