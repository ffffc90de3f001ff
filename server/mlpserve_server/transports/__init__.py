"""Three ways to the wire behind one interface; this module alone chooses between them.

May import control, calls, host and what is below.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec

from mlpserve_server.calls import Answer, Call, Transport
from mlpserve_server.config import ServerConfig, split_address
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
        name, reason = _choose(config)
        log.info("transport auto: %s (%s)", name, reason)
    tokens = Tokens(config.tokens) if config.tokens else None
    if name == "grpcio":
        from mlpserve_server.transports.grpcio import GrpcioTransport

        return GrpcioTransport(config, services, max_message, tokens, on_dropped, share_port)
    if name == "wire":
        try:
            from mlpserve_server.transports.wire import WireTransport
        except ImportError as error:
            raise ConfigError(f"--transport wire: {error}; `make wire` builds it, or use --transport grpcio") from error
        return WireTransport(config, services, max_message, tokens, on_dropped, share_port)
    if not find_spec("pygrpc_native"):
        raise ConfigError("--transport native: pygrpc-native is not installed; use --transport grpcio")
    from mlpserve_server.transports.native import NativeTransport

    if not tls.is_loopback(split_address(config.listen, "--listen")[0]):
        log.warning(
            "--transport native on %s: it holds every message that is sent to it, of any size and for any time. Only "
            "known callers may reach it, or a proxy that limits them; the other transports have limits of their own",
            config.listen,
        )

    return NativeTransport(config, services, max_message, tokens, on_dropped, share_port)


def _choose(config: ServerConfig) -> tuple[str, str]:
    """The transport where none is asked for, and why it is that one."""
    if config.tls_cert:
        return "grpcio", "native has no TLS"
    if not find_spec("pygrpc_native"):
        return "grpcio", "pygrpc-native is not installed"
    return "native", "it is installed and TLS is off"
