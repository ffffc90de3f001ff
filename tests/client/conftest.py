"""Both clients, for tests that hold for either."""

import pytest
from tests.support.clients import Call, in_async, in_sync


@pytest.fixture(params=[in_sync, in_async], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    """Make a client, call one of its methods, close it."""
    function: Call = request.param
    return function
