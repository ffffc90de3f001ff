"""Two ways to the wire behind one interface: the only place that chooses between them."""

import logging
from importlib.util import find_spec

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import ConfigError
from mlpserve_server.services import ControlServices
from mlpserve_server.transports.base import Answer, Call, Transport

__all__ = ["Answer", "Call", "Transport", "open_transport"]

log = logging.getLogger(__name__)


def open_transport(
    config: ServerConfig, services: ControlServices, max_message: int, share_port: bool = False
) -> Transport:
    """The transport that the configuration asks for, not yet started.

    Raises:
        ConfigError: native is asked for and not installed.
    """
    name = config.transport
    installed = find_spec("pygrpc_native") is not None
    if name == "auto":
        name = "native" if installed else "grpcio"
        log.info("transport auto: %s%s", name, "" if installed else " (pygrpc-native is not installed)")
    host, port = split_address(config.listen, "--listen")
    if name == "grpcio":
        from mlpserve_server.transports.grpcio import GrpcioTransport

        return GrpcioTransport(host, port, services, max_message, share_port)
    if not installed:
        raise ConfigError("--transport native: pygrpc-native is not installed; use --transport grpcio")
    from mlpserve_server.transports.native import NativeTransport

    return NativeTransport(host, port, services, max_message, share_port)
