"""Every setting of the server. `cli.py` makes one flag of each field, so a setting is written once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpserve_server.errors import ConfigError
from mlpserve_server.names import LARGEST_NUMBER, MODEL_RULE, is_model

DEVICES = "auto, cpu, cuda or cuda:N"
PRECISIONS = ("auto", "fp32", "int8")
LOG_FORMATS = ("text", "json")
TRANSPORTS = ("auto", "native", "grpcio")


def _flag(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server.

    Raises:
        ConfigError: a value cannot work.
    """

    store: str | Path = _flag("store", "folder or URL (s3://…) that holds the published models", metavar="DIR|URL")
    model: str = _flag("mnist", "model to serve", metavar="NAME")
    version: int = _flag(0, "version to serve; 0: the promoted one, or the newest, also when that changes", metavar="N")
    keep_versions: int = _flag(1, "versions before the one that serves that answer calls which name them", metavar="N")
    poll: float = _flag(1.0, "how often to look for a new version to serve; 0: never", metavar="SECONDS")
    require_signature: str = _flag("", "serve only versions signed with this key's other half", metavar="PUBLIC_KEY")
    listen: str = _flag("127.0.0.1:50051", "address of the gRPC port; port 0 takes a free one", metavar="HOST:PORT")
    metrics_listen: str = _flag("", "address of the Prometheus metrics; empty: none", metavar="HOST:PORT")
    transport: str = _flag(
        "auto",
        "native: HTTP/2 in Rust; grpcio: gRPC's own server; auto: native where it is installed",
        choices=TRANSPORTS,
    )
    device: str = _flag(
        "auto",
        "auto, cpu, cuda or cuda:N (GPU number N); cuda fails where it cannot be used, auto logs what it took",
        metavar="DEVICE",
    )
    precision: str = _flag("auto", "which ONNX file to load; auto measures both at start", choices=PRECISIONS)
    max_batch: int = _flag(256, "most images in one ONNX Runtime call", metavar="IMAGES")
    max_request: int = _flag(4096, "most images in one request", metavar="IMAGES")
    max_queue: int = _flag(16384, "most images waiting; beyond it requests fail at once", metavar="IMAGES")
    threads: int = _flag(0, "threads of ONNX Runtime; 0: the CPUs of this container less one for the transport")
    workers: int = _flag(
        0, "processes that share the port; 0: half of the CPUs of this container, 1 on a GPU", metavar="N"
    )
    tls_cert: str = _flag("", "PEM certificate chain; serves TLS, on the grpcio transport", metavar="FILE")
    tls_key: str = _flag("", "its private key", metavar="FILE")
    tls_client_ca: str = _flag("", "PEM certificates; callers must show one signed by them", metavar="FILE")
    tokens: str = _flag("", "SHA-256 of each bearer token that callers may show", metavar="FILE")
    allow_plaintext: bool = _flag(
        False, "listen without TLS where other hosts can reach it; something in front must encrypt"
    )
    max_streams: int = _flag(1024, "most calls at a time on one connection; more wait", metavar="CALLS")
    max_watches: int = _flag(
        1000, "most open streams, which are health watches and reflection; more are refused", metavar="STREAMS"
    )
    max_connections: int = _flag(
        0, "most connections, on the grpcio transport; 0: as many as there are files", metavar="N"
    )
    max_connection_idle: float = _flag(
        0.0, "close connections without calls, on the grpcio transport; 0: never", metavar="SECONDS"
    )
    max_connection_age: float = _flag(
        0.0, "ask callers to connect anew, on the grpcio transport; 0: never", metavar="SECONDS"
    )
    stall_timeout: float = _flag(
        60.0,
        "end when no batch has run or no connection was taken for so long; NOT_SERVING after a quarter",
        metavar="SECONDS",
    )
    log_format: str = _flag("text", "one line an event, as text or as a JSON object", choices=LOG_FORMATS)
    slow_request: float = _flag(1.0, "log requests that take longer, one a second at most; 0: none", metavar="SECONDS")
    trace: str = _flag("", "OpenTelemetry spans of traced requests: otlp, or a file", metavar="otlp|FILE")
    drain_delay: float = _flag(
        0.0, "how long to go on accepting after SIGTERM, for balancers to see NOT_SERVING", metavar="SECONDS"
    )
    drain_timeout: float = _flag(30.0, "longest time to finish accepted work after SIGTERM", metavar="SECONDS")

    def __post_init__(self) -> None:
        checks = {
            f"--model {self.model[:80]!r} cannot be the name of a model; expected {MODEL_RULE}": is_model(self.model),
            "--version must be 0 or a version number": 0 <= self.version <= LARGEST_NUMBER,
            "--max-batch must be at least 1": self.max_batch >= 1,
            "--max-request must be at least 1": self.max_request >= 1,
            "--max-queue must be at least --max-request, or the largest request could never be accepted": (
                self.max_queue >= self.max_request
            ),
            "--threads must not be negative": self.threads >= 0,
            "--workers must not be negative": self.workers >= 0,
            "--keep-versions must not be negative": self.keep_versions >= 0,
            "--poll must not be negative": self.poll >= 0,
            "--drain-delay and --drain-timeout must not be negative": min(self.drain_delay, self.drain_timeout) >= 0,
            "--stall-timeout must be at least 4 seconds": self.stall_timeout >= 4,
            "--slow-request must not be negative": self.slow_request >= 0,
            f"--log-format must be one of {', '.join(LOG_FORMATS)}": self.log_format in LOG_FORMATS,
            "--max-streams must be at least 1": self.max_streams >= 1,
            "--max-watches must not be negative": self.max_watches >= 0,
            "--max-connections must not be negative": self.max_connections >= 0,
            "--max-connection-idle and --max-connection-age must not be negative": (
                min(self.max_connection_idle, self.max_connection_age) >= 0
            ),
            "--tls-cert and --tls-key go together": bool(self.tls_cert) == bool(self.tls_key),
            "--tls-client-ca needs --tls-cert and --tls-key": bool(self.tls_cert) or not self.tls_client_ca,
            "--transport native has no TLS; use grpcio or auto, or a proxy in front": (
                self.transport != "native" or not self.tls_cert
            ),
            f"--transport must be one of {', '.join(TRANSPORTS)}": self.transport in TRANSPORTS,
            f"--precision must be one of {', '.join(PRECISIONS)}": self.precision in PRECISIONS,
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(message)
        split_device(self.device)
        split_address(self.listen, "--listen")
        if self.metrics_listen:
            split_address(self.metrics_listen, "--metrics-listen")


def split_device(device: str) -> tuple[str, int]:
    """Parse "auto", "cpu", "cuda" or "cuda:N" into the kind and the GPU's number.

    Raises:
        ConfigError: it is none of them.
    """
    kind, separator, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (separator and (kind != "cuda" or not index.isdecimal())):
        raise ConfigError(f"--device {device!r}: expected {DEVICES}")
    return kind, int(index or 0)


def split_address(address: str, flag: str) -> tuple[str, int]:
    """Parse "HOST:PORT" or "[IPV6]:PORT".

    Raises:
        ConfigError: it is neither.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{flag} {address!r}: expected HOST:PORT, for example 127.0.0.1:50051")
    return host.removeprefix("[").removesuffix("]"), int(port)
