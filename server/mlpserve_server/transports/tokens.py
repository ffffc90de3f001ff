"""Bearer tokens from a file that may be edited while the server runs."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from mlpserve_server.calls import BATCH, TRAFFIC, TRAFFIC_KEY
from mlpserve_server.errors import ConfigError, Unauthenticated
from mlpserve_server.transports.watched_files import Unread, WatchedFiles

log = logging.getLogger(__name__)

OPEN_TO_ALL = "/grpc.health.v1.Health/"  # methods that need no token: probes have none
DENIED = Unauthenticated(
    "this server wants a bearer token that it knows: send the metadata 'authorization: Bearer TOKEN'"
)

CAP = "traffic="  # in a line of the file

Metadata = Iterable[tuple[str, str | bytes]]


class Bearer(NamedTuple):
    """Who may call.

    Attributes:
        caller: the token's SHA-256.
        only_batch: whether its calls are batch traffic, whatever they say.
    """

    caller: bytes
    only_batch: bool


class Tokens:
    """The tokens that callers may show, known by their SHA-256 only.

    Args:
        path: a file with one token a line: its SHA-256 in hexadecimal and, after a space, whatever names it. The word
            "traffic=batch" among that makes all calls of its bearer batch traffic, whatever they say.

    Raises:
        ConfigError: the file cannot be read, or a line is something else.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = WatchedFiles(f"--tokens {path}", self._read_again, path)
        self._bearers = self._read()

    def digests(self) -> list[bytes]:
        """The SHA-256 of each; has the file looked at."""
        self._files.look()
        return list(self._bearers)

    def bearer(self, digest: bytes) -> Bearer:
        """Who has the token with a SHA-256 that was accepted; it may be gone from the file by now."""
        return self._bearers.get(digest) or Bearer(digest, only_batch=False)

    def find(self, metadata: Metadata) -> Bearer | None:
        """Who shows the token in a call's metadata; None if it is not in the file."""
        self._files.look()
        header = next((value for key, value in metadata if key == "authorization"), "")
        text = header.decode("latin-1") if isinstance(header, bytes) else header
        scheme, _, token = text.strip().partition(" ")
        # A look-up may take longer for one digest than for another: that tells of no token, only of its SHA-256.
        bearer = self._bearers.get(hashlib.sha256(token.strip().encode()).digest())
        return bearer if scheme.lower() == "bearer" else None

    def _read_again(self) -> None:
        try:
            self._bearers = self._read()
            log.info("--tokens %s: %d tokens are accepted now", self._path, len(self._bearers))
        except ConfigError as error:
            log.error("the tokens stay as they were: %s", error)
            raise Unread from error

    def _read(self) -> dict[bytes, Bearer]:
        try:
            lines = Path(self._path).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--tokens {self._path} cannot be read: {error}") from error
        bearers = {}
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
            said = [word.removeprefix(CAP) for word in words[1:] if word.startswith(CAP)]
            if said not in ([], [TRAFFIC[BATCH]]):
                raise ConfigError(
                    f"--tokens {self._path}, line {number}: {CAP}{said[0]} caps nothing; expected "
                    f"{CAP}{TRAFFIC[BATCH]}, for a bearer whose calls are all batch traffic, or nothing"
                )
            bearers[digest] = Bearer(digest, only_batch=bool(said))
        return bearers


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
        known = handler_call_details.method.startswith(OPEN_TO_ALL)
        if known or self._tokens.find(handler_call_details.invocation_metadata) is not None:
            return await continuation(handler_call_details)
        self._on_denied()
        return grpc.stream_stream_rpc_method_handler(_deny)


async def _deny(_: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
    await context.abort(DENIED.code, str(DENIED))


def said_traffic(metadata: Metadata) -> str:
    """What a call's metadata say of its traffic; empty if nothing."""
    for key, value in metadata:
        if key == TRAFFIC_KEY:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""
