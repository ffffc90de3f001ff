"""How waiting ends: on close, when what sends is cancelled, at the end of the loop; with an error of ours, always."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support.waiting import wait_until
from tests.support.liar import Liar

from mlpserve_client import AsyncClient, Client, ClientClosedError, DeadlineExceededError, MlpserveError, ServerError
from mlpserve_client.scoring import Endpoint, score
from mlpserve_client.scoring import Options as JobOptions
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import ArrayInput
from mlpserve_server.errors import Overloaded

IMAGES = np.random.default_rng(5).integers(0, 256, (20, 2, 2)).astype(np.uint8)
HANG = 30  # seconds; nothing here takes one

Calls = list["asyncio.Task[Any]"]


def _run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(HANG):
            await body()

    asyncio.run(bounded())


def _calls(client: AsyncClient, **options: Any) -> Calls:
    return [asyncio.ensure_future(client.predict(image, timeout=300, **options)) for image in IMAGES]


async def _arrived(server: Liar, method: str = "Predict") -> None:
    while method not in server.asked:
        await asyncio.sleep(0.01)


def _overloaded(_: str, __: bytes, context: grpc.ServicerContext) -> None:
    error = Overloaded("full", retry_after=200)
    context.set_trailing_metadata(error.trailing_metadata())
    context.abort(error.code, str(error))


async def _all_closed(calls: Calls) -> None:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
    assert all("is closed; make a new one" in str(outcome) for outcome in outcomes)


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first"])
def test_close_ends_every_waiting_call(coalesce: bool, known: bool) -> None:
    async def body() -> None:
        client = AsyncClient(server.address, coalesce=coalesce)
        if known:
            await client.predict(IMAGES[0])
            server.asked.clear()
        server.gate.clear()
        calls = _calls(client)
        await _arrived(server)
        await client.close()
        await _all_closed(calls)

    with Liar() as server:
        _run(body)


@pytest.mark.parametrize("coalesce", [True, False])
def test_close_ends_calls_that_have_not_been_sent(coalesce: bool) -> None:
    async def body() -> None:
        client = AsyncClient(server.address, coalesce=coalesce)
        await client.predict(IMAGES[0])
        calls = _calls(client)
        await asyncio.sleep(0)
        await client.close()
        await _all_closed(calls)

    with Liar() as server:
        _run(body)


@pytest.mark.parametrize("coalesce", [True, False])
def test_close_ends_calls_that_pause_before_a_retry(coalesce: bool) -> None:
    async def body() -> None:
        client = AsyncClient(server.address, coalesce=coalesce)
        calls = _calls(client)
        await _arrived(server, "GetModel")
        await asyncio.sleep(0.3)
        await client.close()
        await _all_closed(calls)

    with Liar() as server:
        server.fail = _overloaded
        _run(body)


@pytest.mark.parametrize("begun", [True, False])
def test_cancelling_what_sends_ends_its_calls(begun: bool) -> None:
    """Whoever cancels all tasks of a loop but its own: the callers learn of it, and the client goes on."""

    async def body() -> None:
        async with AsyncClient(server.address) as client:
            await client.predict(IMAGES[0])
            server.asked.clear()
            server.gate.clear()
            before = asyncio.all_tasks()
            calls = _calls(client)
            while not (senders := asyncio.all_tasks() - before - set(calls)):
                await asyncio.sleep(0)
            if begun:
                await _arrived(server)
            for sender in senders:
                sender.cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {ClientClosedError}
            server.gate.set()
            assert len(await client.predict(IMAGES)) == len(IMAGES)

    with Liar() as server:
        _run(body)


def test_cancelling_the_first_question_asks_again() -> None:
    async def body() -> None:
        async with AsyncClient(server.address) as client:
            before = asyncio.all_tasks()
            calls = _calls(client)
            while not (askers := asyncio.all_tasks() - before - set(calls)):
                await asyncio.sleep(0)
            for asker in askers:
                asker.cancel()
            assert [len(answer) for answer in await asyncio.gather(*calls)] == [1] * len(IMAGES)

    with Liar() as server:
        _run(body)


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first"])
def test_a_caller_who_goes_takes_nobody_along(coalesce: bool, known: bool) -> None:
    async def body() -> None:
        async with AsyncClient(server.address, coalesce=coalesce) as client:
            if known:
                await client.predict(IMAGES[0])
            server.asked.clear()
            server.gate.clear()
            hurried = asyncio.ensure_future(client.predict(IMAGES[0], timeout=0.05))
            calls = _calls(client)
            await _arrived(server)
            for call in calls[:5]:
                call.cancel()
            with pytest.raises(DeadlineExceededError):
                await hurried
            server.gate.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[:5])
            assert all(len(outcome) == 1 for outcome in outcomes[5:])

    with Liar() as server:
        _run(body)


def test_a_cancelled_caller_is_cancelled_though_the_client_closes() -> None:
    async def body() -> None:
        client = AsyncClient(server.address, coalesce=False)
        await client.predict(IMAGES[0])
        server.gate.clear()
        server.asked.clear()
        calls = _calls(client)
        await _arrived(server)
        for call in calls:
            call.cancel()
        await client.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)

    with Liar() as server:
        _run(body)


def test_the_end_of_the_loop_ends_every_call() -> None:
    outcomes: list[Any] = []

    async def caller(client: AsyncClient, image: Any) -> None:
        try:
            await client.predict(image, timeout=300)
        except BaseException as error:
            outcomes.append(error)
            raise

    async def body() -> None:
        client = AsyncClient(server.address)
        await client.predict(IMAGES[0])
        server.gate.clear()
        server.asked.clear()
        kept.extend(asyncio.ensure_future(caller(client, image)) for image in IMAGES)
        await _arrived(server)

    kept: Calls = []
    with Liar() as server:
        _run(body)
    assert len(outcomes) == len(IMAGES)
    assert all(isinstance(outcome, (asyncio.CancelledError, MlpserveError)) for outcome in outcomes)


@pytest.mark.parametrize("coalesce", [True, False])
def test_one_client_in_one_loop_after_another(coalesce: bool) -> None:
    """As a client at the top of a module is used by tests, or by several calls of asyncio.run."""

    async def use() -> int:
        answers = await asyncio.gather(*(client.predict(image) for image in IMAGES))
        return len(answers)

    with Liar() as server:
        client = AsyncClient(server.address, coalesce=coalesce)
        for _ in range(3):
            assert asyncio.run(use()) == len(IMAGES)
        assert len(client._connections) == 1, "what belongs to loops that have ended is dropped"
        asyncio.run(client.close())
        with pytest.raises(ClientClosedError, match="make a new one"):
            asyncio.run(use())


def test_one_client_in_loops_of_several_threads() -> None:
    """One closes it while the others wait."""
    inside = threading.Barrier(4, timeout=HANG)

    async def use(closes: bool) -> str:
        await client.predict(IMAGES[0])
        await asyncio.to_thread(inside.wait)
        if closes:
            server.asked.clear()
            server.gate.clear()
        await asyncio.to_thread(inside.wait)
        if closes:
            while server.asked.count("Predict") < 3:
                await asyncio.sleep(0.01)
            await client.close()
            return "closed"
        try:
            await client.predict(IMAGES[0], timeout=300)
        except ClientClosedError:
            return "ended"
        return "answered"

    with Liar() as server, ThreadPoolExecutor(4) as pool:
        client = AsyncClient(server.address)
        outcomes = list(pool.map(lambda closes: asyncio.run(use(closes)), [False, False, False, True], timeout=HANG))
    assert outcomes == ["ended"] * 3 + ["closed"]


@pytest.mark.parametrize("method", ["predict", "get_model", "list_models", "wait_ready"])
@pytest.mark.parametrize("used", [True, False])
def test_calls_after_close(method: str, used: bool) -> None:
    arguments: tuple[Any, ...] = {"predict": (IMAGES,), "wait_ready": (5,)}.get(method, ())

    async def body() -> None:
        client = AsyncClient(server.address)
        if used:
            await client.predict(IMAGES)
        await client.close()
        await client.close()
        with pytest.raises(ClientClosedError, match="make a new one"):
            await getattr(client, method)(*arguments)

    with Liar() as server:
        _run(body)
        with Client(server.address) as client:
            if used:
                client.predict(IMAGES)
        client.close()
        with pytest.raises(ClientClosedError, match="make a new one"):
            getattr(client, method)(*arguments)
        with pytest.raises(ClientClosedError):
            list(client.map(IMAGES))


@pytest.mark.parametrize("pausing", [False, True])
def test_closing_under_threads_that_wait(pausing: bool) -> None:
    with Liar() as server, ThreadPoolExecutor(8) as pool:
        client = Client(server.address, timeout=300)
        client.predict(IMAGES)
        server.asked.clear()
        if pausing:
            server.fail = _overloaded
        else:
            server.gate.clear()
        calls = [pool.submit(client.predict, image) for image in IMAGES[:7]]
        stream = pool.submit(lambda: list(client.map(IMAGES, batch=2)))
        wait_until(lambda: len(server.asked) >= 8, "every call has reached the server")
        client.close()
        for call in (*calls, stream):
            with pytest.raises(ClientClosedError):
                call.result(HANG)


def test_a_stream_that_is_left_asks_no_more() -> None:
    with Liar() as server, Client(server.address, timeout=300) as client:
        stream = client.map(np.concatenate([IMAGES] * 50), batch=1, in_flight=2)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        asked = len(server.asked)
        assert asked < 10
        threading.Event().wait(0.1)
        assert len(server.asked) == asked


def test_a_failed_job_does_not_sit_out_a_retry(tmp_path: Path) -> None:
    """One request is asked to come back in 200 s when another one ends the job."""
    refused = threading.Event()

    def fail(method: str, request: bytes, context: grpc.ServicerContext) -> None:
        if method == "Predict" and b"\xff" * 40 in request:
            refused.set()
            _overloaded(method, request, context)
        elif method == "Predict":
            refused.wait(HANG)
            context.abort(grpc.StatusCode.INTERNAL, "broken")

    np.save(tmp_path / "images.npy", np.concatenate([np.zeros((20, 2, 2)), np.full((20, 2, 2), 255)]).astype(np.uint8))
    with Liar() as server:
        server.fail = fail
        started = time.monotonic()
        endpoint = Endpoint(server.address, timeout=300)
        with pytest.raises(ServerError, match="broken"):
            score(endpoint, [str(tmp_path / "images.npy")], str(tmp_path / "out"), JobOptions(batch=20))
        assert time.monotonic() - started < 4 * HANG


def test_a_reader_that_panics_ends_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a compiled reader raises may be no Exception, as pyo3's panics are."""

    class Panic(BaseException):
        pass

    def read(*_: Any) -> Any:
        raise Panic("index out of bounds")

    np.save(tmp_path / "images.npy", IMAGES)
    monkeypatch.setattr(ArrayInput, "read", read)
    with Liar() as server, pytest.raises(ScoringError, match="Panic: index out of bounds"):
        score(Endpoint(server.address), [str(tmp_path / "images.npy")], str(tmp_path / "out"))


def test_a_closed_client_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No "exception was never retrieved" for calls that nobody waits for any more."""

    async def body() -> None:
        client = AsyncClient(server.address)
        await client.predict(IMAGES[0])
        server.gate.clear()
        calls = _calls(client)
        await _arrived(server)
        await client.close()
        with contextlib.suppress(ClientClosedError):
            await asyncio.gather(*calls)
        await asyncio.gather(*calls, return_exceptions=True)

    with Liar() as server:
        _run(body)
    assert caplog.records == []
