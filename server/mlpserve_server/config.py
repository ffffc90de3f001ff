"""Every setting of the server. `cli.py` makes one flag of each field, so a setting is written once."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlpserve.artifact import LARGEST_NUMBER
from mlpserve.numbers import LONGEST, MOST
from mlpserve_server.errors import ConfigError
from mlpserve_server.names import MODEL_RULE, is_model

DEVICES = "auto, cpu, cuda or cuda:N"
PRECISIONS = ("auto", "fp32", "int8")
LOG_FORMATS = ("text", "json")
MOST_OF = {"version": LARGEST_NUMBER, "workers": 1024, "threads": 1024, "max_batch": 1 << 20, "max_request": 1 << 20}
TRANSPORTS = ("auto", "wire", "grpcio")


# The groups of --help, in its order.
STORE, NETWORK, EXECUTION, BATCHING = "Model and store", "Network", "Execution", "Batching and load shedding"
SECURITY, LIFECYCLE, OBSERVABILITY = "Security", "Lifecycle", "Observability"
GROUPS = (STORE, NETWORK, EXECUTION, BATCHING, SECURITY, LIFECYCLE, OBSERVABILITY)


def _flag(group: str, default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"group": group, "help": help, **more})


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server.

    Raises:
        ConfigError: a value cannot work.
    """

    store: str | Path = _flag(STORE, "store", "model store: a folder, or a URL such as s3://…", metavar="DIR|URL")
    model: str = _flag(STORE, "mnist", "model to serve", metavar="NAME")
    version: int = _flag(
        STORE,
        0,
        "version to pin; 0 follows the promoted version, or the newest if none is promoted; without a number, print "
        "mlpserve's own",
        metavar="N",
    )
    keep_versions: int = _flag(
        STORE, 1, "previously served versions to keep loaded for requests that pin them", metavar="N"
    )
    poll: float = _flag(
        STORE, 1.0, "how often to check the store for a version to hot reload; 0 never checks", metavar="SECONDS"
    )
    require_signature: str = _flag(
        SECURITY, "", "serve only versions that verify against this PEM public key", metavar="PUBLIC_KEY"
    )
    listen: str = _flag(
        NETWORK, "127.0.0.1:50051", "address of the gRPC server; port 0 picks a free port", metavar="HOST:PORT"
    )
    metrics_listen: str = _flag(
        OBSERVABILITY, "", "address of the Prometheus endpoint; off if not given", metavar="HOST:PORT"
    )
    transport: str = _flag(
        NETWORK,
        "auto",
        "wire: mlpserve-wire, compiled, several times as fast; grpcio: gRPC's own server, runs everywhere; auto: wire "
        "where it is installed, grpcio otherwise",
        choices=TRANSPORTS,
    )
    device: str = _flag(
        EXECUTION,
        "auto",
        "auto, cpu, cuda or cuda:N (GPU number N); auto falls back to the CPU and logs why, cuda fails instead",
        metavar="DEVICE",
    )
    precision: str = _flag(EXECUTION, "auto", "ONNX file to load; auto benchmarks both at startup", choices=PRECISIONS)
    max_batch: int = _flag(BATCHING, 256, "largest batch: images in one ONNX Runtime call", metavar="IMAGES")
    max_request: int = _flag(BATCHING, 4096, "largest request", metavar="IMAGES")
    max_queue: int = _flag(
        BATCHING,
        16384,
        "images of interactive calls that may wait; a full queue sheds load with RESOURCE_EXHAUSTED",
        metavar="IMAGES",
    )
    batch_queue: int = _flag(
        BATCHING,
        65536,
        "images of batch traffic that may wait, such as those of scoring jobs: it never takes the room of the others",
        metavar="IMAGES",
    )
    batch_share: float = _flag(
        BATCHING,
        0.1,
        "part of the images that batch traffic gets even while interactive calls could take all, 0 to below 1",
        metavar="PART",
    )
    threads: int = _flag(
        EXECUTION, 0, "ONNX Runtime threads; 0 uses the container's CPUs, less one for the transport", metavar="N"
    )
    workers: int = _flag(
        EXECUTION,
        0,
        "worker processes that share the port; 0 uses half of the container's CPUs, 1 on a GPU",
        metavar="N",
    )
    tls_cert: str = _flag(SECURITY, "", "PEM certificate chain; turns TLS on", metavar="FILE")
    tls_key: str = _flag(SECURITY, "", "PEM private key of --tls-cert", metavar="FILE")
    tls_client_ca: str = _flag(
        SECURITY,
        "",
        "PEM certificate authorities; turns mutual TLS on: clients must present a certificate",
        metavar="FILE",
    )
    tokens: str = _flag(SECURITY, "", "file with the SHA-256 of each accepted bearer token", metavar="FILE")
    allow_plaintext: bool = _flag(
        SECURITY,
        False,
        "listen without TLS on an address that other hosts reach; encrypt in front, for example in a proxy",
    )
    trusted_callers: bool = _flag(
        SECURITY,
        False,
        "over grpcio, serve other hosts without asking for their certificates: only known callers reach the port",
    )
    max_streams: int = _flag(
        BATCHING,
        0,
        "in-flight calls on one connection; further calls wait in the client; 0: 1024 on wire, 128 on grpcio",
        metavar="CALLS",
    )
    max_watches: int = _flag(
        BATCHING, 1000, "open streams (health watches and reflection); further streams are rejected", metavar="STREAMS"
    )
    max_connections: int = _flag(
        NETWORK,
        0,
        "open connections; 0: 4096 on wire, as many as the process may have open files on grpcio",
        metavar="N",
    )
    max_connection_idle: float = _flag(
        NETWORK, 0.0, "close a connection after this long without calls; 0 never", metavar="SECONDS"
    )
    max_connection_age: float = _flag(
        NETWORK, 0.0, "ask clients to reconnect after this long; 0 never", metavar="SECONDS"
    )
    stall_timeout: float = _flag(
        LIFECYCLE,
        60.0,
        "exit when the batching loop or the port has been stuck for this long; NOT_SERVING after a quarter of it",
        metavar="SECONDS",
    )
    log_format: str = _flag(OBSERVABILITY, "text", "log format, one line per event", choices=LOG_FORMATS)
    slow_request: float = _flag(
        OBSERVABILITY, 1.0, "log requests slower than this, at most one per second; 0 logs none", metavar="SECONDS"
    )
    trace: str = _flag(
        OBSERVABILITY, "", "export OpenTelemetry spans of traced requests: otlp, or to a file", metavar="otlp|FILE"
    )
    drain_delay: float = _flag(
        LIFECYCLE,
        0.0,
        "keep accepting requests this long after SIGTERM while health says NOT_SERVING, so that load balancers notice",
        metavar="SECONDS",
    )
    drain_timeout: float = _flag(
        LIFECYCLE, 30.0, "longest graceful shutdown: time to finish in-flight requests after SIGTERM", metavar="SECONDS"
    )

    def __post_init__(self) -> None:
        self._check_bounds()
        checks = {
            f"--model {self.model[:80]!r} cannot be the name of a model; expected {MODEL_RULE}": is_model(self.model),
            "--version must be 0 or a version number": 0 <= self.version <= LARGEST_NUMBER,
            "--max-batch must be at least 1": self.max_batch >= 1,
            "--max-request must be at least 1": self.max_request >= 1,
            "--max-queue must be at least --max-request, or the largest request could never be accepted": (
                self.max_queue >= self.max_request
            ),
            "--batch-queue must be at least --max-request, or the largest request could never be accepted": (
                self.batch_queue >= self.max_request
            ),
            "--batch-share must be 0 or more, and below 1": 0 <= self.batch_share < 1,
            "--threads must not be negative": self.threads >= 0,
            "--workers must not be negative": self.workers >= 0,
            "--keep-versions must not be negative": self.keep_versions >= 0,
            "--poll must not be negative": self.poll >= 0,
            "--drain-delay and --drain-timeout must not be negative": min(self.drain_delay, self.drain_timeout) >= 0,
            "--stall-timeout must be at least 4 seconds": self.stall_timeout >= 4,
            "--slow-request must not be negative": self.slow_request >= 0,
            f"--log-format must be one of {', '.join(LOG_FORMATS)}": self.log_format in LOG_FORMATS,
            "--max-streams must not be negative": self.max_streams >= 0,
            "--max-watches must not be negative": self.max_watches >= 0,
            "--max-connections must not be negative": self.max_connections >= 0,
            "--max-connection-idle and --max-connection-age must not be negative": (
                min(self.max_connection_idle, self.max_connection_age) >= 0
            ),
            "--tls-cert and --tls-key go together": bool(self.tls_cert) == bool(self.tls_key),
            "--tls-client-ca needs --tls-cert and --tls-key": bool(self.tls_cert) or not self.tls_client_ca,
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

    def _check_bounds(self) -> None:
        """Refuse what overflows below, infinity and numbers that are none among it."""
        for item in fields(self):
            value = getattr(self, item.name)
            flag = f"--{item.name.replace('_', '-')}"
            if item.metadata.get("metavar") == "SECONDS" and not value <= LONGEST:
                raise ConfigError(f"{flag} is {value:g}; expected seconds, at most {LONGEST:,.0f}")
            if isinstance(value, int) and value > MOST_OF.get(item.name, MOST):
                raise ConfigError(f"{flag} is {value}; expected at most {MOST_OF.get(item.name, MOST):,}")


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
