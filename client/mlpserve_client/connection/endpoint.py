"""Which server and model to call, and how: the settings of a connection, written once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict, Unpack

from mlpserve_client.errors import InvalidInputError

Pem = str | Path | bytes  # a path, or what such a file holds


@dataclass(frozen=True)
class Tls:
    """An encrypted connection.

    Attributes:
        ca: the authorities that may have signed the server's certificate, as a path to a PEM file or as its content in
            bytes; None: the system's.
        cert, key: the caller's own certificate chain and key, in the same forms, for servers that ask for one.
        server_name: name in the server's certificate, where it is not the one in the target.
    """

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = field(default=None, repr=False)
    server_name: str = ""


class Settings(TypedDict, total=False):
    """An endpoint's settings as keyword arguments; `Endpoint` says what they mean and what they default to."""

    model: str
    version: int
    timeout: float | None
    tls: Tls | None
    token: str
    token_over_plaintext: bool
    traffic: str


TRAFFIC = ("", "interactive", "batch")


@dataclass(frozen=True)
class Endpoint:
    """A server, or several that share the work; a plain value that can travel to other processes.

    Attributes:
        target: "HOST:PORT", or any name that gRPC resolves; "ipv4:A:1,B:2" names several.
        model: name of the model; "" for the one that the server serves.
        version: version that must answer; 0 for the one that the server serves.
        timeout: seconds for a whole call, its retries included; None for the default of whoever calls: CALL_TIMEOUT
            for a client, JOB_TIMEOUT for a scoring job.
        tls: how to encrypt; None for plaintext.
        token: bearer token to show, for servers that want one.
        token_over_plaintext: show it without TLS to other hosts too, where something between encrypts.
        traffic: who waits for the answers, "interactive" or "batch": a server answers batch traffic behind the other;
            "" lets it judge by the size of a request.

    Raises:
        InvalidInputError: the version does not fit the contract, or there is no such traffic.
    """

    target: str
    model: str = ""
    version: int = 0
    timeout: float | None = None
    tls: Tls | None = None
    token: str = field(default="", repr=False)
    token_over_plaintext: bool = False
    traffic: str = ""

    def __post_init__(self) -> None:
        if self.traffic not in TRAFFIC:
            raise InvalidInputError(f"traffic is {self.traffic!r}; expected 'interactive', 'batch', or '' for neither")
        if not 0 <= self.version < 2**32:
            raise InvalidInputError(
                f"version is {self.version}; expected 0 (the one that is served) or a version number"
            )

    @classmethod
    def of(cls, target: "str | Endpoint", **settings: Unpack[Settings]) -> "Endpoint":
        """A target with settings; those that are given replace the ones of an endpoint.

        Raises:
            InvalidInputError: the version does not fit the contract.
        """
        return replace(target, **settings) if isinstance(target, Endpoint) else cls(target, **settings)
