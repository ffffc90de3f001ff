"""Every setting of the server. `cli.py` makes one flag of each field, so a setting is written once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpserve_server.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "int8")
TRANSPORTS = ("auto", "native", "grpcio")


def _flag(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server.

    Raises:
        ConfigError: a value cannot work.
    """

    store: Path = _flag(Path("store"), "folder that holds the published models", metavar="DIR")
    model: str = _flag("mnist", "model to serve", metavar="NAME")
    version: int = _flag(0, "version to serve; 0 is the latest", metavar="N")
    listen: str = _flag("127.0.0.1:50051", "address of the gRPC port; port 0 takes a free one", metavar="HOST:PORT")
    metrics_listen: str = _flag("", "address of the Prometheus metrics; empty: none", metavar="HOST:PORT")
    transport: str = _flag(
        "auto",
        "native: HTTP/2 in Rust; grpcio: gRPC's own server; auto: native where it is installed",
        choices=TRANSPORTS,
    )
    device: str = _flag(
        "auto", "cuda fails where it cannot be used; auto says in the log what it took", choices=DEVICES
    )
    precision: str = _flag("auto", "which ONNX file to load; auto measures both at start", choices=PRECISIONS)
    max_batch: int = _flag(256, "most images in one ONNX Runtime call", metavar="IMAGES")
    max_request: int = _flag(4096, "most images in one request", metavar="IMAGES")
    max_queue: int = _flag(16384, "most images waiting; beyond it requests fail at once", metavar="IMAGES")
    threads: int = _flag(0, "threads of ONNX Runtime; 0: the CPUs of this container less one for the transport")
    workers: int = _flag(
        0, "processes that share the port; 0: half of the CPUs of this container, 1 on a GPU", metavar="N"
    )
    drain_timeout: float = _flag(30.0, "longest time to finish accepted work after SIGTERM", metavar="SECONDS")

    def __post_init__(self) -> None:
        checks = {
            "--version must be 0 (the latest) or a version number": self.version >= 0,
            "--max-batch must be at least 1": self.max_batch >= 1,
            "--max-request must be at least 1": self.max_request >= 1,
            "--max-queue must be at least --max-request, or the largest request could never be accepted": (
                self.max_queue >= self.max_request
            ),
            "--threads must not be negative": self.threads >= 0,
            "--workers must not be negative": self.workers >= 0,
            "--drain-timeout must not be negative": self.drain_timeout >= 0,
            f"--transport must be one of {', '.join(TRANSPORTS)}": self.transport in TRANSPORTS,
            f"--device must be one of {', '.join(DEVICES)}": self.device in DEVICES,
            f"--precision must be one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(message)
        split_address(self.listen, "--listen")
        if self.metrics_listen:
            split_address(self.metrics_listen, "--metrics-listen")


def split_address(address: str, flag: str) -> tuple[str, int]:
    """Parse "HOST:PORT" or "[IPV6]:PORT".

    Raises:
        ConfigError: it is neither.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{flag} {address!r}: expected HOST:PORT, for example 127.0.0.1:50051")
    return host.removeprefix("[").removesuffix("]"), int(port)
