"""Callers with many single images: coalescing in `AsyncClient`, `Client.map`."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.client.test_client import IMAGES, Scripted, _serve

from mlpserve_client import AsyncClient, Client, DeadlineExceededError, InvalidInputError, UnavailableError
from mlpserve_server.errors import NotReady


def test_concurrent_calls_get_their_own_answers(server: ServerProcess) -> None:
    async def run() -> None:
        async with AsyncClient(server.address) as client, AsyncClient(server.address, coalesce=False) as plain:
            whole = await plain.predict(mnist_images()[:1500], probabilities=True)
            sizes = [1 + index % 5 for index in range(500)]
            starts = np.cumsum([0, *sizes])
            calls = [
                client.predict(mnist_images()[start : start + size], top_k=1 + index % 2, probabilities=index % 3 == 0)
                for index, (start, size) in enumerate(zip(starts, sizes, strict=False))
            ]
            for index, answer in enumerate(await asyncio.gather(*calls)):
                rows = slice(starts[index], starts[index] + sizes[index])
                best = answer.class_ids if index % 2 == 0 else answer.class_ids[:, 0]
                assert best.tolist() == whole.class_ids[rows].tolist()
                assert (answer.probabilities is not None) == (index % 3 == 0)
                if answer.probabilities is not None:
                    assert whole.probabilities is not None
                    assert np.allclose(answer.probabilities, whole.probabilities[rows], atol=1e-5)

    asyncio.run(run())


def test_calls_at_the_same_time_share_requests() -> None:
    servicer = Scripted()

    async def run(target: str) -> None:
        async with AsyncClient(target) as client:
            await client.predict(IMAGES[0])
            await asyncio.gather(*(client.predict(image) for image in IMAGES))

    with _serve(servicer) as target:
        asyncio.run(run(target))
    assert sum(servicer.sizes) == 121
    # One request of 120 would not fit the scripted server's message limit of 50: three parts.
    assert servicer.sizes == [1, 50, 50, 20]


def test_an_idle_client_sends_at_once() -> None:
    servicer = Scripted()

    async def run(target: str) -> None:
        async with AsyncClient(target) as client:
            for image in IMAGES[:5]:
                await client.predict(image)

    with _serve(servicer) as target:
        asyncio.run(run(target))
    assert servicer.sizes == [1] * 5


def test_a_cancelled_call_harms_nobody_and_a_failure_reaches_all() -> None:
    async def run(target: str, good: bool) -> None:
        async with AsyncClient(target, retries=0) as client:
            await client.get_model()
            tasks = [asyncio.ensure_future(client.predict(image)) for image in IMAGES[:10]]
            await asyncio.sleep(0)
            tasks[3].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes.pop(3), asyncio.CancelledError)
        if good:
            assert all(len(outcome) == 1 for outcome in outcomes)  # type: ignore[arg-type]
        else:
            assert all(isinstance(outcome, UnavailableError) for outcome in outcomes)

    with _serve(Scripted()) as target:
        asyncio.run(run(target, good=True))
    with _serve(Scripted(*[NotReady("loading")] * 10)) as target:
        asyncio.run(run(target, good=False))


def test_each_call_keeps_its_own_deadline() -> None:
    async def run(target: str) -> None:
        async with AsyncClient(target) as client:
            await client.get_model()
            started = asyncio.get_running_loop().time()
            ended: list[float] = []

            async def call(timeout: float) -> object:
                try:
                    return await client.predict(IMAGES[0], timeout=timeout)
                except DeadlineExceededError as error:
                    ended.append(asyncio.get_running_loop().time() - started)
                    return error

            outcomes = await asyncio.gather(*(call(timeout) for timeout in (20, 0.3, 0.1, 20, 0.2)))
        assert [isinstance(outcome, DeadlineExceededError) for outcome in outcomes] == [False, True, True, False, True]
        assert ended == sorted(ended), "the shortest ends first"
        assert ended[2] >= 0.3

    with _serve(Scripted(delay=1)) as target:
        asyncio.run(run(target))


def test_many_first_calls_ask_for_the_model_once(server: ServerProcess) -> None:
    async def run(coalesce: bool) -> None:
        images = mnist_images()[:3000]
        async with AsyncClient(server.address, coalesce=coalesce, timeout=60) as client:
            answers = await asyncio.gather(*(client.predict(image.reshape(28, 28)) for image in images))
            whole = await client.predict(images)
        assert [answer.class_ids[0] for answer in answers] == whole.class_ids.tolist()

    asyncio.run(run(coalesce=True))
    asyncio.run(run(coalesce=False))


def test_calls_share_a_failure_to_reach_the_server() -> None:
    async def run() -> None:
        async with AsyncClient("127.0.0.1:1", retries=0, timeout=5) as client:
            calls = [client.predict(image) for image in IMAGES[:20]]
            outcomes = await asyncio.gather(*calls, client.predict(IMAGES[0], timeout=0.001), return_exceptions=True)
        assert all(isinstance(outcome, UnavailableError) for outcome in outcomes[:-1])

    asyncio.run(run())


def test_map_streams_in_order(server: ServerProcess) -> None:
    read = 0

    def images() -> Iterator[np.ndarray]:  # type: ignore[type-arg]
        nonlocal read
        for image in mnist_images()[:2000]:
            read += 1
            yield image

    with Client(server.address) as client:
        expected = client.predict(mnist_images()[:2000])
        stream = client.map(images(), batch=64, in_flight=2)
        first = next(stream)
        assert read <= 64 * 3, "it reads no further ahead than what is in flight"
        class_ids = [first.class_ids[0], *(answer.class_ids[0] for answer in stream)]
    assert class_ids == expected.class_ids.tolist()


def test_map_refuses_mixed_shapes(server: ServerProcess) -> None:
    with Client(server.address) as client, pytest.raises(InvalidInputError, match="must all have one shape"):
        list(client.map([mnist_images()[0], mnist_images()[0].ravel()]))
