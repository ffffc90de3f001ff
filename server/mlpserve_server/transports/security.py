"""Who may call: TLS from files that may be renewed, and bearer tokens from a file that may be edited.

Both are read again when the files change, so that certificates are renewed and tokens revoked without a restart.
"""

import hashlib
import hmac
import ipaddress
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import ConfigError, Unauthenticated

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the files
LONG_SECONDS = 5.0  # of a look, after which the log says so
OPEN_TO_ALL = "/grpc.health.v1.Health/"  # methods that need no token: probes have none
DENIED = Unauthenticated(
    "this server wants a bearer token that it knows: send the metadata 'authorization: Bearer TOKEN'"
)

Metadata = Iterable[tuple[str, str | bytes]]


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


def is_loopback(host: str) -> bool:
    """Whether only this host can reach what listens on a host's name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Files:
    """Some files that are read again when they have changed.

    A thread of its own looks and reads, because a network mount that has died would hold the calls.

    Args:
        name: of them, for the log.
        read: reads them; called in that thread.
        paths: of the files.
    """

    def __init__(self, name: str, read: Callable[[], None], *paths: str) -> None:
        self._name = name
        self._read = read
        self._paths = [Path(path) for path in paths]
        self._seen = self._stamps()
        self._began = 0.0
        self._complained = False
        self._looking = threading.Lock()

    def look(self) -> None:
        """Begin to look, at most once in `LOOK_SECONDS`; waits for nothing."""
        now = time.monotonic()
        if now - self._began < LOOK_SECONDS:
            return
        if not self._looking.acquire(blocking=False):
            if now - self._began > LONG_SECONDS and not self._complained:
                self._complained = True
                log.error(
                    "%s cannot be checked for changes: the disk does not answer; what was read before stays in effect",
                    self._name,
                )
            return
        self._began, self._complained = now, False
        try:
            threading.Thread(target=self._look, name=f"looking at {self._name}", daemon=True).start()
        except RuntimeError:  # no more threads are to be had
            self._looking.release()

    def _look(self) -> None:
        try:
            seen = self._stamps()
            if seen != self._seen and seen is not None:
                self._seen = seen
                self._read()
        finally:
            self._looking.release()

    def _stamps(self) -> list[tuple[int, int, int]] | None:
        """What changes with the files; None while they are being replaced."""
        try:
            return [(s.st_mtime_ns, s.st_ino, s.st_size) for s in (path.stat() for path in self._paths)]
        except OSError:
            return None


class Tokens:
    """The tokens that callers may show, known by their SHA-256 only.

    Args:
        path: a file with one token a line: its SHA-256 in hexadecimal and, after a space, whatever names it.

    Raises:
        ConfigError: the file cannot be read, or a line is something else.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = _Files(f"--tokens {path}", self._read_again, path)
        self._digests = self._read()

    def accept(self, metadata: Metadata) -> bool:
        """Whether a call's metadata has a token of the file. Takes the same time for every wrong one."""
        self._files.look()
        header = next((value for key, value in metadata if key == "authorization"), "")
        text = header.decode("latin-1") if isinstance(header, bytes) else header
        scheme, _, token = text.partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return scheme.lower() == "bearer" and any(matches)

    def _read_again(self) -> None:
        try:
            self._digests = self._read()
            log.info("--tokens %s: %d tokens are accepted now", self._path, len(self._digests))
        except ConfigError as error:
            log.error("the tokens stay as they were: %s", error)

    def _read(self) -> list[bytes]:
        try:
            lines = Path(self._path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--tokens {self._path} cannot be read: {error}") from error
        digests = []
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                digest = bytes.fromhex(words[0])
            except ValueError:
                digest = b""
            if len(digest) != hashlib.sha256().digest_size:
                raise ConfigError(
                    f"--tokens {self._path}, line {number}: expected a token's SHA-256 (64 hexadecimal digits) and a "
                    "name; make one with: printf %s TOKEN | sha256sum"
                )
            digests.append(digest)
        return digests


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Ends every call without a token but health checks.

    Args:
        tokens: that are accepted.
        on_denied: told of each call that was ended.
    """

    def __init__(self, tokens: Tokens, on_denied: Callable[[], None]) -> None:
        self._tokens = tokens
        self._on_denied = on_denied

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Pass a call on, or answer it with UNAUTHENTICATED before its message is read."""
        if handler_call_details.method.startswith(OPEN_TO_ALL) or self._tokens.accept(
            handler_call_details.invocation_metadata
        ):
            return await continuation(handler_call_details)
        self._on_denied()
        return grpc.stream_stream_rpc_method_handler(_deny)


async def _deny(_: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
    await context.abort(DENIED.code, str(DENIED))


def server_credentials(config: ServerConfig) -> grpc.ServerCredentials:
    """TLS with the configured files; a handshake has them looked at, and those after it have what they hold then.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """
    renewed: deque[grpc.ServerCertificateConfiguration] = deque(maxlen=1)

    def read_again() -> None:
        try:
            renewed.append(_certificates(config))
        except ConfigError as error:
            log.error("the certificates stay as they were: %s", error)
        else:
            log.info("--tls-cert %s: the certificates were read again", config.tls_cert)

    paths = [config.tls_cert, config.tls_key, *([config.tls_client_ca] if config.tls_client_ca else [])]
    files = _Files(f"--tls-cert {config.tls_cert}", read_again, *paths)

    def fetch() -> "grpc.ServerCertificateConfiguration | None":
        files.look()
        try:
            return renewed.pop()
        except IndexError:
            return None

    initial = _certificates(config)
    # None means "as before", which the stubs do not say.
    return grpc.dynamic_ssl_server_credentials(initial, fetch, bool(config.tls_client_ca))  # type: ignore[arg-type]


def _certificates(config: ServerConfig) -> "grpc.ServerCertificateConfiguration":
    # Python's own TLS says what is wrong with a file; gRPC would only fail every handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--tls-cert {config.tls_cert} with --tls-key {config.tls_key}: {error}; expected a PEM certificate chain "
            "and its private key, not encrypted"
        ) from error
    authorities = None
    if config.tls_client_ca:
        try:
            context.load_verify_locations(config.tls_client_ca)
            authorities = Path(config.tls_client_ca).read_bytes()
        except OSError as error:
            raise ConfigError(f"--tls-client-ca {config.tls_client_ca}: {error}; expected PEM certificates") from error
    try:
        pair = (Path(config.tls_key).read_bytes(), Path(config.tls_cert).read_bytes())
    except OSError as error:  # replaced, or out of descriptors, since they were looked at
        raise ConfigError(f"--tls-cert {config.tls_cert} with --tls-key {config.tls_key}: {error}") from error
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)
