"""Where a wire listens."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from mlpserve_wire import Kind, Limits, Method, Wire, listening_socket
from served import ECHO, serving

WAIT = 10.0


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "0.0.0.0:0"])
def test_addresses(address: str) -> None:
    with serving(address=address) as served, grpc.insecure_channel(f"localhost:{served.port}") as channel:
        target = f"[::1]:{served.port}" if "::" in address else f"127.0.0.1:{served.port}"
        with grpc.insecure_channel(target) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"


def test_every_address_of_both_kinds() -> None:
    with serving(address="[::]:0") as served:
        for host in ("127.0.0.1", "[::1]"):
            with grpc.insecure_channel(f"{host}:{served.port}") as channel:
                assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "wire.sock"
    for _ in range(2):  # the second time the first one's socket is still there
        with serving(address=f"unix:{path}"), grpc.insecure_channel(f"unix:{path}") as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"
            with pytest.raises(OSError, match="in use"):
                listening_socket(f"unix:{path}")


def test_an_inherited_descriptor() -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
        address = f"fd:{os.dup(made.fileno())}"
        with serving(address=address), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"


def test_a_port_is_shared_only_if_both_say_so() -> None:
    with listening_socket("127.0.0.1:0", share_port=True) as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            listening_socket(address)
        listening_socket(address, share_port=True).close()


@pytest.mark.parametrize("address", ["", "localhost", ":1", "host:", "host:port", "host:70000", "fd:x", "127.0.0.1:-1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        listening_socket(address)


def test_a_descriptor_that_is_none() -> None:
    wire = Wire(Limits(), [Method("/a/b", Kind.HOT, 1)], telling=[], takeover=0.001)
    with pytest.raises(RuntimeError):
        wire.listen(999_999)


def test_a_process_ends_with_a_wire_that_was_not_stopped() -> None:
    code = (
        "from mlpserve_wire import *\n"
        "wire = Wire(Limits(), [Method('/a/b', Kind.HOT, 1)], telling=[], takeover=0.001)\n"
        "wire.listen(listening_socket('127.0.0.1:0').detach())\n"
        "wire.start()\n"
        "wire.receive(0.01)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
