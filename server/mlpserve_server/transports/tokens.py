"""Bearer tokens from a file that may be edited while the server runs."""

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from mlpserve_server.errors import ConfigError, Unauthenticated
from mlpserve_server.transports.watched_files import WatchedFiles

log = logging.getLogger(__name__)

OPEN_TO_ALL = "/grpc.health.v1.Health/"  # methods that need no token: probes have none
DENIED = Unauthenticated(
    "this server wants a bearer token that it knows: send the metadata 'authorization: Bearer TOKEN'"
)

Metadata = Iterable[tuple[str, str | bytes]]


class Tokens:
    """The tokens that callers may show, known by their SHA-256 only.

    Args:
        path: a file with one token a line: its SHA-256 in hexadecimal and, after a space, whatever names it.

    Raises:
        ConfigError: the file cannot be read, or a line is something else.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = WatchedFiles(f"--tokens {path}", self._read_again, path)
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
