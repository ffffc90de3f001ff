"""The settings of a connection as one value."""

import dataclasses
import pickle
from pathlib import Path

import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess

from mlpserve_client import AsyncClient, Client, Endpoint, InvalidInputError, Tls
from mlpserve_client.connection.endpoint import Settings
from mlpserve_client.connection.retries import CALL_TIMEOUT


def test_keyword_arguments_are_the_endpoints_fields() -> None:
    fields = [field.name for field in dataclasses.fields(Endpoint)]
    assert ["target", *Settings.__annotations__] == fields


def test_an_endpoint_travels_to_other_processes() -> None:
    endpoint = Endpoint("a:1", "mnist", 3, tls=Tls(ca=Path("ca.pem")), token="secret")
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_of_an_endpoint(kind: type[Client] | type[AsyncClient]) -> None:
    assert kind(Endpoint("127.0.0.1:1")).retry.timeout == CALL_TIMEOUT
    assert kind(Endpoint("127.0.0.1:1", timeout=3)).retry.timeout == 3
    assert kind(Endpoint("127.0.0.1:1", timeout=3), timeout=7.0).retry.timeout == 7
    with pytest.raises(InvalidInputError, match="version is -1"):
        kind(Endpoint("127.0.0.1:1"), version=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
        kind("127.0.0.1:1", modle="mnist")  # type: ignore[call-arg]


def test_settings_replace_those_of_an_endpoint(server: ServerProcess) -> None:
    endpoint = Endpoint(server.address, model="no such model", timeout=30)
    with Client(endpoint, model="") as client:
        assert len(client.predict(mnist_images()[:3])) == 3
