"""The servers that are measured, each with the command that starts it on one core."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlpserve.v1.classifier_pb2 import PredictResponse

BENCH = Path(__file__).resolve().parent
PYTHON = sys.executable
PREDICT = "/mlpserve.v1.ClassifierService/Predict"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CORE = "0"
TLS, CONSTANT = BENCH / "out/tls", BENCH / "out/constant"
ENDS = ("1 in flight", "256 in flight", "1024 images")  # names of cases
LARGE = ("1024 images",)
LOG_SHOWN = 8000  # bytes


@dataclass(frozen=True)
class Contender:
    """A server.

    Attributes:
        name: in the table.
        command: with {port}, {other}, {another} (free ports), {store} and {onnx} to be filled in.
        path: of a request.
        wire: form of a request: "mlpserve" (our contract), "oip" (the Open Inference Protocol over gRPC; "oip-bytes":
            the pixels as one string), "raw" (HTTP/1, the pixels as they are), "json" (HTTP/1, base64) or "h2" (our
            contract's bytes, without gRPC's status in the answer).
        answers: whether its answers are checked; a server with one constant answer has none.
        environment: added to this process's.
        tls: whether it speaks TLS with the certificate of `certificates`.
        only: names of the cases that it is measured in; empty: all.
        open_loop: whether it is measured in an open loop as well.
    """

    name: str
    command: tuple[str, ...]
    path: str = PREDICT
    wire: str = "mlpserve"
    answers: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    only: tuple[str, ...] = ()
    open_loop: bool = False

    @property
    def grpc(self) -> bool:
        """Whether it is asked over gRPC."""
        return self.wire in ("mlpserve", "oip", "oip-bytes")

    def url(self, port: int) -> str:
        """Of a request."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}{self.path}"


def _ours(name: str, *flags: str) -> Contender:
    command = (str(Path(PYTHON).parent / "mlpserve-server"), "--store", "{store}", "--listen", "127.0.0.1:{port}")
    return Contender(name, (*command, *flags))


def _script(name: str, *arguments: str, answers: bool = True) -> Contender:
    return Contender(name, (PYTHON, *arguments), answers=answers)


OURS = (
    _ours("mlpserve"),
    replace(_ours("mlpserve, ModelInfer"), path=MODEL_INFER, wire="oip"),
    _ours("mlpserve, grpcio", "--transport", "grpcio"),
)
_WIRE = ("--transport", "wire")
_TLS = ("--tls-cert", str(TLS / "server.pem"), "--tls-key", str(TLS / "server.key"))
# What `make bench-serving` measures of ours, and of nobody else's.
MEASURED = (
    replace(_ours("mlpserve", *_WIRE), open_loop=True),
    replace(_ours("mlpserve, ModelInfer", *_WIRE), path=MODEL_INFER, wire="oip"),
    replace(_ours("mlpserve, TLS", *_WIRE, *_TLS), tls=True, only=ENDS),
    replace(_ours("mlpserve, ModelInfer, TLS", *_WIRE, *_TLS), path=MODEL_INFER, wire="oip", tls=True, only=ENDS),
    replace(_ours("mlpserve, float32", *_WIRE, "--precision", "fp32"), only=ENDS),
    replace(
        _ours("mlpserve, float32, ModelInfer", *_WIRE, "--precision", "fp32"), path=MODEL_INFER, wire="oip", only=LARGE
    ),
    replace(_ours("mlpserve, int8", *_WIRE, "--precision", "int8"), only=LARGE),
    replace(_ours("mlpserve, grpcio", "--transport", "grpcio"), open_loop=True),
    replace(_ours("mlpserve, grpcio, ModelInfer", "--transport", "grpcio"), path=MODEL_INFER, wire="oip", only=ENDS),
)
# The limits: HTTP/2 in C with a constant file, and our transports with nothing behind them.
LIMITS = (
    Contender(
        "nghttpd",
        ("nghttpd", "--no-tls", "-a", "127.0.0.1", "-m", "1024", "-n", "1", "-d", str(CONSTANT), "{port}"),
        "/reply",
        "h2",
        answers=False,
        open_loop=True,
    ),
    _script(
        "wire, constant reply",
        str(BENCH / "baselines/wire_constant.py"),
        str(CONSTANT / "reply"),
        "{port}",
        answers=False,
    ),
    _script("grpcio, constant reply", str(BENCH / "baselines/noop.py"), "{store}", "{port}", "grpcio", answers=False),
)
TUTORIALS = (
    replace(_script("grpcio threads", str(BENCH / "baselines/threads.py"), "{onnx}", "{port}"), open_loop=True),
    replace(_script("grpc.aio", str(BENCH / "baselines/aio.py"), "{onnx}", "{port}"), open_loop=True),
)


def prepare() -> None:
    """Make the files that some servers are started with: a certificate, and a constant answer of a real one's size."""
    import trustme

    for folder in (TLS, CONSTANT):
        folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(TLS / "ca.pem"))
    issued.private_key_pem.write_to_path(str(TLS / "server.key"))
    (TLS / "server.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    reply = PredictResponse(top_k=1, class_ids=[7], scores=[1.0])
    reply.model.name, reply.model.version, reply.model.digest = "mnist", 1, "sha256:" + 64 * "0"
    (CONSTANT / "reply").write_bytes(reply.SerializeToString())


def missing(contender: Contender) -> str:
    """Why a server cannot be measured here; empty if it can."""
    if contender.command[0] == "nghttpd" and shutil.which("nghttpd") is None:
        return "nghttpd is not installed: apt-get install nghttp2-server"
    needs_wire = "wire" in contender.command or contender.name.startswith("wire,")
    if needs_wire and find_spec("mlpserve_wire") is None:
        return "mlpserve_wire is not installed: make wire"
    return ""


@contextmanager
def running(
    contender: Contender, store: Path, onnx: Path, cores: str = CORE, show_log: bool = False
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a server and all its children on one core or several; the port may not be open yet.

    What the server says is printed on standard error where the caller fails or the log is to be shown.
    """
    port, other, another = free_ports(3)
    places = {"port": str(port), "other": str(other), "another": str(another), "store": str(store), "onnx": str(onnx)}
    command = ["taskset", "-c", cores, *(part.format(**places) for part in contender.command)]
    environment = {**os.environ, **{key: value.format(**places) for key, value in contender.environment.items()}}
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        stack.callback(_end, process)
        try:
            yield port, process
        except BaseException:
            show_log = True
            raise
        finally:
            if show_log:
                # Not by seeking: the server writes at the same position.
                start = max(0, os.fstat(log.fileno()).st_size - LOG_SHOWN)
                said = os.pread(log.fileno(), LOG_SHOWN, start).decode(errors="replace")
                print(f"{' '.join(command)} said:\n{said}", file=sys.stderr, flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the session that was made for a process: its children as well, and nothing else."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process and its children, shared pages counted once each (PSS)."""
    total = 0.0
    for folder in family(process):
        try:
            rollup = (folder / "smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
        except (OSError, StopIteration):
            continue
    return total


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """CPU time that a process and its children have used."""
    ticks = 0
    for folder in family(process):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user, system
    return ticks / os.sysconf("SC_CLK_TCK")


def family(process: subprocess.Popen[Any]) -> Iterator[Path]:
    """The /proc folders of a process and of all that it has started and their children."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            parents[int(status.parent.name)] = int(fields[1])
    for number in parents:
        ancestor = number
        while ancestor not in (process.pid, 0):
            ancestor = parents.get(ancestor, 0)
        if ancestor == process.pid:
            yield Path("/proc") / str(number)
