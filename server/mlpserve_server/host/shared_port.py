"""A port that several processes share, held by one that does not listen."""

import socket

from mlpserve_server.config import split_address
from mlpserve_server.errors import ListenError


def reserve(listen: str) -> tuple[socket.socket, str]:
    """Find a port that nobody else listens on, and keep it for this process's workers.

    Args:
        listen: "HOST:PORT"; port 0 takes a free one.

    Returns:
        A socket that holds the port without listening, and the address with the real port.

    Raises:
        ListenError: somebody has the port, or the address cannot be had.
    """
    host, port = split_address(listen, "--listen")
    shown = f"[{host}]" if ":" in host else host
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))  # without SO_REUSEPORT: fails if anybody has the port
            port = probe.getsockname()[1]
    except OSError as error:
        raise _in_use(shown, port, error) from error
    held = socket.socket(family)
    try:
        # Connections of a server that has ended stay in TIME_WAIT for a minute. Those of one that did not share its
        # port keep others from sharing it, unless both sides say SO_REUSEADDR. Once it is bound, it is said no longer:
        # another supervisor's probe would pass while the workers here do not listen yet.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        held.close()
        raise _in_use(shown, port, error) from error
    return held, f"{shown}:{port}"


def _in_use(host: str, port: int, error: OSError) -> ListenError:
    return ListenError(f"--listen {host}:{port}: {error.strerror or error}; take another address")
