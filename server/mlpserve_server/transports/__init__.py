"""Two transports behind one interface; this module alone chooses between them.

May import control, calls, host and what is below.
"""

import importlib
import logging
from collections.abc import Callable

from mlpserve_server.calls import Answer, Call, Transport
from mlpserve_server.config import ServerConfig
from mlpserve_server.control.services import ControlServices
from mlpserve_server.errors import ConfigError
from mlpserve_server.transports import tls
from mlpserve_server.transports.tokens import Tokens

__all__ = ["Answer", "Call", "Transport", "open_transport"]

log = logging.getLogger(__name__)


def open_transport(
    config: ServerConfig,
    services: ControlServices,
    max_message: int,
    *,
    on_dropped: Callable[[str], None],
    share_port: bool = False,
) -> Transport:
    """The transport that the configuration asks for, not yet started.

    Args:
        config: settings.
        services: everything but Predict.
        max_message: largest request in bytes.
        on_dropped: told of each call that is ended before it is read, with why: one of `Metrics.dropped`.
        share_port: let other processes listen on the same port (SO_REUSEPORT).

    Raises:
        ConfigError: what is asked for is not installed, or a file for TLS or tokens cannot be used.
    """
    tls.check_plaintext(config)
    name = config.transport
    if name == "auto":
        name, reason = _choose()
        log.info("transport auto: %s (%s)", name, reason)
    tokens = Tokens(config.tokens) if config.tokens else None
    if name == "grpcio":
        tls.check_callers(config)
        from mlpserve_server.transports.grpcio import GrpcioTransport

        return GrpcioTransport(config, services, max_message, tokens, on_dropped, share_port)
    try:
        from mlpserve_server.transports.wire import WireTransport
    except ImportError as error:
        raise ConfigError(f"--transport wire: {error}; `make wire` builds it, or use --transport grpcio") from error
    return WireTransport(config, services, max_message, tokens, on_dropped, share_port)


def _choose() -> tuple[str, str]:
    """The transport where none is asked for, and why it is that one."""
    try:
        importlib.import_module("mlpserve_wire")
    except ImportError as error:
        return (
            "grpcio",
            f"mlpserve-wire, several times as fast and needed on ports that strangers reach, cannot be used: {error}",
        )
    return "wire", "the fastest, and it is installed"
