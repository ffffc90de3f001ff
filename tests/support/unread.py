"""Servers whose output nobody reads, and stores that never answer."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import BIN, free_port
from support.waiting import wait_until

from mlpserve_server.healthcheck import is_serving

# Started in place of the executable: once a file exists, every Run hangs.
HANGING_RUN = """
import os, sys, time
from mlpserve_server.batching import loop as batching
from mlpserve_server import cli
from mlpserve_server.models import model
batching.PROBE_SECONDS = 0.1
predict = model.LoadedModel.predict
def hang(self, images):
    while os.path.exists(os.environ["HANG"]):
        time.sleep(0.05)
    return predict(self, images)
model.LoadedModel.predict = hang
cli.main()
"""

# What every Python process loads first: opening a file of a store hangs in the kernel, as on a network mount that has
# died, once a FIFO exists that nobody writes to.
DEAD_MOUNT = """
import os
really_open = os.open
def open_or_hang(path, *arguments, **keywords):
    if str(path).endswith(os.environ["HANG_NAME"]) and os.path.exists(os.environ["HANG_FIFO"]):
        os.read(really_open(os.environ["HANG_FIFO"], os.O_RDONLY), 1)
    return really_open(path, *arguments, **keywords)
os.open = open_or_hang
"""


def prepare_dead_mount(folder: Path, name: str, environment: pytest.MonkeyPatch) -> Path:
    """Let files whose path ends so hang in servers that are started from now on, as soon as the FIFO is made.

    Returns:
        Where to make the FIFO; see `hanging`.
    """
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(DEAD_MOUNT)
    environment.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    environment.setenv("HANG_NAME", name)
    environment.setenv("HANG_FIFO", str(folder / "fifo"))
    return folder / "fifo"


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe with no room for another byte, as (read end, write end)."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * 512)
        os.set_blocking(writer, True)  # of the open file, as the server inherits it
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def unread_server(
    writer: int, store: Path, *flags: object, hang: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that serves, with both outputs into a pipe, and its address."""
    address = f"127.0.0.1:{free_port()}"
    executable = [sys.executable, "-c", HANGING_RUN] if hang else [BIN / "mlpserve-server"]
    command = [*executable, "--store", store, "--listen", address, "--precision", "fp32", *flags]
    process = subprocess.Popen(
        list(map(str, command)), stdout=writer, stderr=writer, env={**os.environ, "HANG": str(hang)}
    )
    try:

        def serves() -> bool:
            assert process.poll() is None
            return is_serving(address)

        wait_until(serves, "the server is SERVING")
        yield process, address
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def hanging(fifo: Path) -> Iterator[None]:
    """Wait until somebody reads a FIFO, and let the reader get nothing as long as the block lasts."""
    opened: list[int] = []

    def open_to_write() -> list[int]:
        opened.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))  # not before somebody opens it for reading
        return opened

    (writer,) = wait_until(open_to_write, "somebody reads the FIFO", not_yet=(OSError,))
    try:
        yield
    finally:
        os.close(writer)
