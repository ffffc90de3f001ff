"""The queue under real load: overload, deadlines, cancellation, drain, batch-mates. On both transports.

The "slow" model keeps the server busy with one large request, so that what follows must wait in the queue.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import call_until_refused, channel, details, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, children, free_port, scrape, scrape_when
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from mlpserve_server.healthcheck import is_serving

Busy = tuple[ServerProcess, ClassifierServiceStub, str]

ONE = pb.PredictRequest(images=bytes(784))
ONE_OF_A_JOB = pb.PredictRequest(images=bytes(784), traffic=pb.TRAFFIC_BATCH)
BLOCKER = pb.PredictRequest(images=bytes(784 * 4096))  # batch traffic by its size: what is of a job waits behind it


@pytest.fixture
def busy_for_long(transport: str, slow_store: Path, tmp_path: Path) -> Iterator[Busy]:
    """A server that may queue all that is sent, and gives itself 0.2 s to drain."""
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--drain-timeout", 0.2]
    with (
        ServerProcess(tmp_path, slow_store, *flags, "--metrics-listen", metrics) as process,
        stub(process.address) as caller,
    ):
        caller.Predict(ONE, timeout=10)
        yield process, caller, metrics


@pytest.fixture
def busy(transport: str, slow_store: Path, tmp_path: Path) -> Iterator[Busy]:
    """A server that may queue 5,000 images, its stub, and its metrics' address."""
    with _slow_server(transport, slow_store, tmp_path, max_queue=5000) as parts:
        yield parts


@pytest.fixture
def busy_with_room(transport: str, slow_store: Path, tmp_path: Path) -> Iterator[Busy]:
    """The same, and it may queue 30,000 images."""
    with _slow_server(transport, slow_store, tmp_path, max_queue=30_000) as parts:
        yield parts


@contextmanager
def _slow_server(transport: str, store: Path, tmp_path: Path, max_queue: int) -> Iterator[Busy]:
    flags = ["--model", "slow", "--transport", transport, "--precision", "fp32", "--threads", 1]
    address = f"127.0.0.1:{free_port()}"
    with (
        ServerProcess(
            tmp_path, store, *flags, "--max-queue", max_queue, "--batch-queue", max_queue, "--metrics-listen", address
        ) as process,
        stub(process.address) as caller,
    ):
        caller.Predict(ONE, timeout=10)  # the connection is up
        scrape_when(address, lambda now: now["mlpserve_images_total"] == 1)  # so that no test counts it
        yield process, caller, address


def _dropped(samples: dict[str, float], reason: str) -> float:
    return sum(
        samples.get(f'mlpserve_dropped_total{{reason="{reason}",traffic="{traffic}"}}', 0)
        for traffic in ("interactive", "batch", "")
    )


def _block(caller: ClassifierServiceStub, metrics: str, requests: int = 1) -> "list[grpc.Future[pb.PredictResponse]]":
    """Start large requests, and wait until slices of them wait."""
    calls = [caller.Predict.future(BLOCKER, timeout=120) for _ in range(requests)]
    scrape_when(metrics, lambda now: now['mlpserve_queue_images{traffic="batch"}'] > 0)
    return calls


def _arrived(caller: ClassifierServiceStub) -> None:
    """Return when all that was sent before has arrived: the connection keeps the order, and this one runs first."""
    caller.Predict(ONE, timeout=60)


def test_overload_fails_fast_with_retry_info_and_recovers(
    busy: Busy,
) -> None:
    _, caller, metrics = busy
    blockers = _block(caller, metrics, requests=4)
    codes = []
    for call in blockers:
        try:
            codes.append((call.result(), None)[1])
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            (detail,) = details(error)
            assert isinstance(detail, RetryInfo)
            assert detail.retry_delay.ToMilliseconds() >= 1
            codes.append("overloaded")
    assert codes.count(None) >= 1, "the queue holds at least one"
    assert codes.count("overloaded") >= 1, "and not all of them"
    assert len(caller.Predict(ONE, timeout=60).class_ids) == 1
    refused = 'mlpserve_dropped_total{reason="overload",traffic="batch"}'
    samples = scrape_when(metrics, lambda now: now.get(refused, 0) >= codes.count("overloaded"))
    assert samples[refused] == codes.count("overloaded")
    assert [samples[f'mlpserve_queue_images{{traffic="{name}"}}'] for name in ("interactive", "batch")] == [0, 0]


def test_deadline_in_the_queue_costs_no_run(busy_with_room: Busy) -> None:
    _, caller, metrics = busy_with_room
    before = scrape(metrics)["mlpserve_images_total"]
    blockers = _block(caller, metrics, requests=4)
    late = [caller.Predict.future(ONE_OF_A_JOB, timeout=0.3) for _ in range(20)]
    for call in late:
        # The server may know by then that they are hopeless.
        assert call.exception().code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert all(len(call.result().class_ids) == 4096 for call in blockers)
    caller.Predict(ONE, timeout=60)
    samples = scrape_when(metrics, lambda now: now["mlpserve_images_total"] - before >= 4 * 4096 + 1)
    # The server's clock for a call starts when the call arrives, so on a busy machine one may still be alive there.
    assert samples["mlpserve_images_total"] - before <= 4 * 4096 + 1 + 2, "only the live were run"
    # A call may be dropped as expired by the loop, or ended by the transport first; some may never have been sent.
    assert 1 <= sum(_dropped(samples, reason) for reason in ("expired", "cancelled", "hopeless")) <= 20


def test_a_cancelled_caller_harms_nobody(busy_with_room: Busy) -> None:
    _, caller, metrics = busy_with_room
    before = scrape(metrics)["mlpserve_images_total"]
    blockers = _block(caller, metrics, requests=4)  # however late this process gets to cancel, they still run
    image = pb.PredictRequest(images=pixels(mnist_images()[:1]), probabilities=True, traffic=pb.TRAFFIC_BATCH)
    mates = [caller.Predict.future(image, timeout=60) for _ in range(10)]
    leavers = [caller.Predict.future(image, timeout=60) for _ in range(10)]
    _arrived(caller)
    for call in leavers:
        call.cancel()
    answers = [call.result() for call in mates]
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert all(len(call.result().class_ids) == 4096 for call in blockers)
    caller.Predict(ONE, timeout=60)
    expected = 4 * 4096 + len(mates) + 2
    samples = scrape_when(metrics, lambda now: now["mlpserve_images_total"] - before >= expected)
    assert samples["mlpserve_images_total"] - before == expected, "only those that stayed were run"
    assert _dropped(samples, "cancelled") == 10


def test_bad_batch_mates_fail_alone(busy: Busy) -> None:
    _, caller, metrics = busy
    (blocker,) = _block(caller, metrics)
    good = pb.PredictRequest(images=pixels(mnist_images()[:3]))
    bad = pb.PredictRequest(images=bytes(100))
    calls = [caller.Predict.future(good if index % 2 else bad, timeout=60) for index in range(20)]
    for index, call in enumerate(calls):
        if index % 2:
            assert len(call.result().class_ids) == 3
        else:
            assert call.exception().code() is grpc.StatusCode.INVALID_ARGUMENT
    assert blocker.exception() is None


def test_sigterm_finishes_what_was_accepted(busy: Busy) -> None:
    process, caller, metrics = busy
    (blocker,) = _block(caller, metrics)
    waiting = [caller.Predict.future(ONE_OF_A_JOB, timeout=60) for _ in range(50)]
    _arrived(caller)
    process.terminate()
    assert len(blocker.result().class_ids) == 4096
    assert all(len(call.result().class_ids) == 1 for call in waiting)
    assert process.wait() == 0
    with pytest.raises(grpc.RpcError) as caught:
        caller.Predict(ONE, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_sigterm_under_load_loses_nothing(transport: str, store: Path, tmp_path: Path) -> None:
    """Callers that do not stop calling see good answers, then UNAVAILABLE, and nothing else."""
    outcomes: list[grpc.StatusCode] = []
    with ServerProcess(tmp_path, store, "--transport", transport) as process, stub(process.address) as caller:
        threads = [threading.Thread(target=call_until_refused, args=(caller, ONE, outcomes)) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: grpc.StatusCode.OK in outcomes, "a call is answered")
        process.terminate()
        assert process.wait() == 0
        for thread in threads:
            thread.join()
    assert grpc.StatusCode.OK in outcomes
    assert set(outcomes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_a_drain_that_takes_too_long_is_reported(busy_for_long: Busy) -> None:
    process, caller, metrics = busy_for_long
    blockers = _block(caller, metrics, requests=4)
    process.terminate()
    assert process.wait() == 3
    assert {call.code() for call in blockers} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK}
    assert "some requests were not finished within --drain-timeout 0.2 s" in process.log
    assert "Traceback" not in process.log


def test_a_call_that_cannot_be_in_time_is_refused_at_once(busy_with_room: Busy) -> None:
    """Its deadline would pass in the queue; it is told so while there is time to go elsewhere."""
    _, caller, metrics = busy_with_room
    started = time.monotonic()
    caller.Predict(BLOCKER, timeout=60)  # now the loop knows how fast batches run
    run_seconds = time.monotonic() - started
    (blocker,) = _block(caller, metrics)
    waiting = [caller.Predict.future(pb.PredictRequest(images=bytes(784 * 1000)), timeout=60) for _ in range(24)]
    _arrived(caller)
    # Alive when the loop takes it in, after the blocker's Run (which other work may slow down by half and
    # more); not after the Runs of what waits before it, six times as much.
    hopeless = [caller.Predict.future(ONE_OF_A_JOB, timeout=3 * run_seconds) for _ in range(10)]
    in_time = [caller.Predict.future(ONE_OF_A_JOB, timeout=60) for _ in range(10)]
    interactive = [caller.Predict.future(ONE, timeout=3 * run_seconds) for _ in range(10)]
    codes = [call.code() for call in hopeless if call.exception() is not None]
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 10
    assert all("the queue of batch calls takes about" in call.details() for call in hopeless)
    assert all(isinstance(details(call)[0], RetryInfo) for call in hopeless)
    assert all(call.exception() is None for call in [blocker, *waiting, *in_time, *interactive])
    samples = scrape_when(metrics, lambda now: _dropped(now, "hopeless") >= 10)
    assert _dropped(samples, "hopeless") == 10


def test_drain_delay_goes_on_accepting_while_health_says_no(transport: str, store: Path, tmp_path: Path) -> None:
    flags = ["--transport", transport, "--drain-delay", 3]
    with ServerProcess(tmp_path, store, *flags) as process, stub(process.address) as caller:
        assert is_serving(process.address)
        process.terminate()
        wait_until(lambda: not is_serving(process.address), "health says no", every=0.01)
        assert len(caller.Predict(ONE, timeout=5).class_ids) == 1
        assert process.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_at_once(workers: int, store: Path, tmp_path: Path) -> None:
    flags = ["--workers", workers, "--drain-delay", 60]
    with ServerProcess(tmp_path, store, *flags) as process:
        processes = children(process.process.pid)
        process.terminate()
        process.wait_for_log("draining")
        process.process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert "a second signal: ending at once" in process.log
        assert len(processes) == (workers if workers > 1 else 0)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in processes), "no worker outlives it", 10)


def test_watchers_of_health_do_not_hold_the_exit(transport: str, store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport) as process, channel(process.address) as opened:
        # As many as one connection may have.
        streams = [health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest()) for _ in range(16)]
        assert {next(stream).status for stream in streams} == {health_pb2.HealthCheckResponse.SERVING}
        process.terminate()
        assert {next(stream).status for stream in streams} == {health_pb2.HealthCheckResponse.NOT_SERVING}
        assert process.wait(20) == 0
