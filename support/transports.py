"""The server's transports, for tests that run with each."""

import os
from importlib.util import find_spec

import pytest

from support.processes import ONLY

TRANSPORTS = (ONLY,) if ONLY else ("wire", "grpcio")


def need(transport: str) -> None:
    """Skip the test if the transport is not installed; fail it where MLPSERVE_REQUIRE_WIRE=1 says that it must be."""
    if transport == "wire" and not find_spec("mlpserve_wire"):
        reason = "mlpserve_wire is not installed; `make wire` builds it and says what it lacks"
        if os.environ.get("MLPSERVE_REQUIRE_WIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
