"""Sockets that listen."""

import socket
import stat
from contextlib import suppress
from pathlib import Path

BACKLOG = 4096


def listening_socket(address: str, *, share_port: bool = False) -> socket.socket:
    """A socket that listens on an address.

    Args:
        address: "HOST:PORT", where port 0 picks a free one; "[IPV6]:PORT", of which "[::]" takes IPv4 as well;
            "unix:PATH", where a socket that nobody listens on any longer is replaced; or "fd:NUMBER", of a socket that
            was inherited and is bound already.
        share_port: let other processes listen on the same port (SO_REUSEPORT). Without it the port is this one's alone.

    Raises:
        ValueError: the address is none of these.
        OSError: it cannot be listened on.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        return _unix(rest)
    if scheme == "fd":
        if not rest.isdecimal():
            raise ValueError(f"{address!r}: expected fd:NUMBER")
        inherited = socket.socket(fileno=int(rest))
        inherited.listen(BACKLOG)
        return inherited
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r}: expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd:NUMBER")
    host = host.removeprefix("[").removesuffix("]")
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        made.bind(place)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            Path(path).unlink()
        made.bind(path)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _is_abandoned(path: str) -> bool:
    """Whether there is a socket that nobody listens on."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    return True
    return False
