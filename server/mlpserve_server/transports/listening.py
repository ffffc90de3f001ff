"""Whether a port of this process still takes connections, seen from outside of what holds it.

gRPC's server may end by itself, and no transport says whether it still accepts. So the listening sockets are found
among this process's descriptors, and looked at without taking a descriptor: there may be none left.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TCP_INFO_SIZE, UNACKED = 28, slice(24, 28)  # of struct tcp_info; of a listening socket: connections not yet accepted


class Listening:
    """Watches one port.

    Attributes:
        port: of this process; to be set before the first look.
        seen: time.monotonic() of the last look at which it listened and had left nobody waiting.
    """

    def __init__(self) -> None:
        self.port = 0
        self.seen = time.monotonic()
        self._known: list[int] = []

    def look(self) -> bool:
        """Whether the port listens; that it accepts as well shows in `seen`."""
        waiting = self._count(self._known)
        if not waiting:
            with suppress(OSError):  # there are no descriptors left to look for it with, and the known ones are gone
                waiting = self._count(descriptors())
        self._known = list(waiting)
        if 0 in waiting.values():
            self.seen = time.monotonic()
        return bool(waiting)

    def _count(self, numbers: "Iterator[int] | list[int]") -> dict[int, int]:
        counted = {number: borrow(number, self._waiting) for number in numbers}
        return {number: waiting for number, waiting in counted.items() if waiting is not None}

    def _waiting(self, shared: socket.socket) -> int | None:
        """Connections that are not accepted yet; None if it is no listening socket of the port."""
        if not is_of(shared, self.port) or not shared.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        info = shared.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        return int.from_bytes(info[UNACKED], "little")


def hang_up(port: int) -> None:
    """End every TCP connection to a port of this process, and stop listening on it."""

    def end(shared: socket.socket) -> None:
        if is_of(shared, port):
            shared.shutdown(socket.SHUT_RDWR)

    for number in descriptors():
        borrow(number, end)


def descriptors() -> Iterator[int]:
    """This process's descriptors.

    Raises:
        OSError: there is none left to look with.
    """
    return (int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def borrow(number: int, action: Callable[[socket.socket], T | None]) -> T | None:
    """Do something with another owner's descriptor; None if it is no socket, or gone in the meantime."""
    try:
        shared = socket.socket(fileno=number)
    except OSError:
        return None
    try:
        return action(shared)
    except OSError:
        return None
    finally:
        shared.detach()


def is_of(shared: socket.socket, port: int) -> bool:
    """Whether a socket is a TCP one on this local port."""
    internet = shared.family in (socket.AF_INET, socket.AF_INET6) and shared.type == socket.SOCK_STREAM
    return internet and shared.getsockname()[1] == port
