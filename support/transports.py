"""The server's transports, for tests that run with each."""

from importlib.util import find_spec

import pytest

TRANSPORTS = ("wire", "native", "grpcio")
MODULES = {"wire": "mlpserve_wire", "native": "pygrpc_native"}


def need(transport: str) -> None:
    """Skip the test if the transport's module is not installed."""
    module = MODULES.get(transport)
    if module and not find_spec(module):
        pytest.skip(f"{module} is not installed")
