"""Listings that are no listings: a client that goes through pages must come to an end."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceServicer, add_ClassifierServiceServicer_to_server
from mlpserve_client import AsyncClient, Client
from mlpserve_client.errors import InvalidInputError, InvalidResponseError

Reply = Callable[[pb.ListModelsRequest], pb.ListModelsResponse]


class _Lying(ClassifierServiceServicer):
    reply: Reply

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        return self.reply(request)


@pytest.fixture(scope="module")
def lying() -> Iterator[tuple[_Lying, str]]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = _Lying()
    add_ClassifierServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0)


def _models(*numbers: int, token: str = "") -> pb.ListModelsResponse:
    summaries = [pb.ModelSummary(model=pb.ModelRef(name="m", version=number)) for number in numbers]
    return pb.ListModelsResponse(models=summaries, next_page_token=token, total_size=9)


def _listed(kind: str, address: str, limit: int = 0) -> list[int]:
    async def ask() -> pb.ListModelsResponse:
        async with AsyncClient(address) as client:
            return await client.list_models(limit)

    if kind == "async":
        found = asyncio.run(ask())
    else:
        with Client(address) as client:
            found = client.list_models(limit)
    return [summary.model.version for summary in found.models]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "reply",
    [
        lambda request: _models(3, 2, token="again") if not request.page_token else _models(token="again"),
        lambda request: _models(3, 2, token="a" + request.page_token),
        lambda _: _models(2, 3),
        lambda _: _models(2, 2),
    ],
    ids=["the same token", "the same versions", "ascending", "twice"],
)
def test_pages_that_do_not_go_on(kind: str, reply: Reply, lying: tuple[_Lying, str]) -> None:
    servicer, address = lying
    servicer.reply = staticmethod(reply)  # type: ignore[assignment]
    with pytest.raises(InvalidResponseError, match="does not continue where the previous one ended"):
        _listed(kind, address)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_pages_are_put_together(kind: str, lying: tuple[_Lying, str]) -> None:
    servicer, address = lying
    asked = []

    def reply(request: pb.ListModelsRequest) -> pb.ListModelsResponse:
        asked.append((request.page_size, request.page_token))
        # All of the second page were deleted a moment ago.
        return {"": _models(9, 8, token="b"), "b": _models(token="c"), "c": _models(3)}[request.page_token]

    servicer.reply = staticmethod(reply)  # type: ignore[assignment,method-assign]
    assert _listed(kind, address) == [9, 8, 3]
    assert asked == [(1000, ""), (1000, "b"), (1000, "c")]
    assert _listed(kind, address, 1) == [9]  # also from a server that knows of no sizes
    asked.clear()
    assert _listed(kind, address, 3) == [9, 8, 3]
    assert asked == [(3, ""), (1, "b"), (1, "c")]
    with pytest.raises(InvalidInputError, match="limit is -1"):
        _listed(kind, address, -1)


def test_a_server_without_pages_lists_everything_at_once(lying: tuple[_Lying, str]) -> None:
    """As servers did before there were pages; what is beyond the limit still counts."""
    servicer, address = lying
    summaries = _models(4, 3, 2, 1).models
    servicer.reply = lambda request: pb.ListModelsResponse(models=summaries)
    with Client(address) as client:
        found = client.list_models(3)
    assert ([summary.model.version for summary in found.models], found.total_size) == ([4, 3, 2], 4)
