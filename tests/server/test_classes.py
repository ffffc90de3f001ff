"""The two classes of traffic over the wire: how callers say theirs, slices, bounds and turns. On both transports."""

import hashlib
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import BadRequest
from support.grpc_calls import details, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape, scrape_when

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client
from mlpserve_client.errors import InvalidInputError

INTERACTIVE, BATCH = pb.TRAFFIC_INTERACTIVE, pb.TRAFFIC_BATCH
IMAGES = mnist_images()[:1000]


def _request(count: int, traffic: int = 0) -> pb.PredictRequest:
    return pb.PredictRequest(images=pixels(IMAGES[:count]), timing=True, traffic=pb.Traffic.Name(traffic))


@pytest.mark.parametrize(
    ("count", "said", "metadata", "traffic"),
    [
        (1, 0, (), INTERACTIVE),
        (256, 0, (), INTERACTIVE),
        (257, 0, (), BATCH),
        (1, BATCH, (), BATCH),
        (257, INTERACTIVE, (), INTERACTIVE),
        (1, 0, (("mlpserve-traffic", "batch"),), BATCH),
        (257, 0, (("mlpserve-traffic", "interactive"),), INTERACTIVE),
        (1, INTERACTIVE, (("mlpserve-traffic", "batch"),), INTERACTIVE),
    ],
)
def test_a_call_is_in_the_class_that_it_says_or_that_its_size_makes_it(
    server: ServerProcess, count: int, said: int, metadata: tuple[tuple[str, str], ...], traffic: int
) -> None:
    with stub(server.address) as caller:
        answer = caller.Predict(_request(count, said), metadata=metadata, timeout=30)
    assert answer.timing.traffic == traffic
    assert answer.timing.slices == (1 if count <= 256 else 2)
    assert len(answer.class_ids) == count


@pytest.mark.parametrize("traffic", [0, INTERACTIVE, BATCH])
def test_slices_are_answered_as_if_there_were_none(server: ServerProcess, traffic: int) -> None:
    whole = pb.PredictRequest(images=pixels(IMAGES), probabilities=True, top_k=3, traffic=pb.Traffic.Name(traffic))
    with stub(server.address) as caller:
        answer = caller.Predict(whole, timeout=30)
        parts = [
            caller.Predict(
                pb.PredictRequest(images=pixels(IMAGES[start : start + 200]), probabilities=True, top_k=3), timeout=30
            )
            for start in range(0, 1000, 200)
        ]
    assert list(answer.class_ids) == [number for part in parts for number in part.class_ids]
    assert np.allclose(answer.probabilities, [value for part in parts for value in part.probabilities], atol=1e-6)
    assert {part.model.digest for part in parts} == {answer.model.digest}


def test_traffic_that_does_not_exist_is_refused(server: ServerProcess) -> None:
    with stub(server.address) as caller:
        with pytest.raises(grpc.RpcError) as caught:
            caller.Predict(pb.PredictRequest(images=bytes(784), traffic=7), timeout=30)  # type: ignore[arg-type]
        (detail,) = details(caught.value)
        assert isinstance(detail, BadRequest)
        assert detail.field_violations[0].field == "traffic"
        with pytest.raises(grpc.RpcError) as caught:
            caller.Predict(_request(1), metadata=(("mlpserve-traffic", "urgent"),), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "metadata mlpserve-traffic: expected interactive or batch"
    with pytest.raises(InvalidInputError, match="traffic is 'urgent'; expected 'interactive', 'batch'"):
        Client(server.address, traffic="urgent")


def test_a_client_says_its_traffic(store: Path, transport: str, tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with ServerProcess(tmp_path, store, "--transport", transport, "--metrics-listen", metrics) as process:
        for number, (traffic, of_batch) in enumerate([("", 0), ("batch", 10), ("interactive", 10)], 1):
            with Client(process.address, traffic=traffic) as client:
                client.predict(IMAGES[:10])
            samples = scrape_when(metrics, lambda now, most=10 * number: now["mlpserve_images_total"] == most)
            assert samples['mlpserve_run_images_total{traffic="batch"}'] == of_batch


def test_a_token_can_cap_the_class_of_its_bearer(store: Path, transport: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("service", "job")}
    tokens.write_text(f"{digests['service']} a service\n{digests['job']} a scoring job traffic=batch\n")
    with (
        ServerProcess(tmp_path, store, "--transport", transport, "--tokens", tokens) as process,
        stub(process.address) as caller,
    ):
        for name, traffic in (("service", INTERACTIVE), ("job", BATCH)):
            bearer = (("authorization", f"Bearer {name}"),)
            assert caller.Predict(_request(1, INTERACTIVE), metadata=bearer, timeout=30).timing.traffic == traffic
            assert caller.Predict(_request(1), metadata=bearer, timeout=30).timing.traffic == traffic


def test_jobs_take_no_room_of_interactive_calls(slow_store: Path, transport: str, tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--precision", "fp32", "--threads", 1, "--batch-queue", 8192]
    with (
        ServerProcess(tmp_path, slow_store, *flags, "--metrics-listen", metrics) as process,
        stub(process.address) as job,
        stub(process.address) as caller,
    ):
        requests = [job.Predict.future(pb.PredictRequest(images=bytes(784 * 4096)), timeout=120) for _ in range(6)]
        refused = 'mlpserve_dropped_total{reason="overload",traffic="batch"}'
        scrape_when(metrics, lambda now: now.get(refused, 0) > 0)
        for _ in range(5):
            assert caller.Predict(_request(1), timeout=60).timing.traffic == INTERACTIVE
        samples = scrape(metrics)
        assert samples['mlpserve_queue_images{traffic="batch"}'] > 0, "and the job is not done"
        assert 'mlpserve_dropped_total{reason="overload",traffic="interactive"}' not in samples
        for request in requests:
            request.cancel()
        gone = 'mlpserve_queue_images{traffic="batch"}'
        scrape_when(metrics, lambda now: now[gone] == 0)
        assert len(caller.Predict(_request(1), timeout=60).class_ids) == 1


def test_a_polite_caller_has_its_turn_beside_a_flood(slow_store: Path, transport: str, tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--max-streams", 8192, "--max-queue", 100_000]
    with (
        ServerProcess(tmp_path, slow_store, *flags, "--metrics-listen", metrics) as process,
        stub(process.address) as flood,
        stub(process.address) as polite,
    ):
        polite.Predict(_request(1), timeout=60)
        calls = [flood.Predict.future(_request(16), timeout=120) for _ in range(1500)]
        scrape_when(metrics, lambda now: now['mlpserve_queue_images{traffic="interactive"}'] > 2000)
        for _ in range(3):
            assert len(polite.Predict(_request(1), timeout=60).class_ids) == 1
        assert scrape(metrics)['mlpserve_queue_images{traffic="interactive"}'] > 500, "the flood goes on waiting"
        for call in calls:
            call.cancel()


def test_a_full_queue_turns_away_the_caller_that_has_filled_it(
    slow_store: Path, transport: str, tmp_path: Path
) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--max-streams", 8192]
    flags += ["--max-queue", 2000, "--max-request", 2000]
    with (
        ServerProcess(tmp_path, slow_store, *flags, "--metrics-listen", metrics) as process,
        stub(process.address) as flood,
        stub(process.address) as polite,
    ):
        polite.Predict(_request(1), timeout=60)
        calls = [flood.Predict.future(_request(16), timeout=120) for _ in range(1500)]
        refused = 'mlpserve_dropped_total{reason="overload",traffic="interactive"}'
        scrape_when(metrics, lambda now: now.get(refused, 0) > 0)
        for _ in range(5):
            assert len(polite.Predict(_request(1), timeout=60).class_ids) == 1
        for call in calls:
            call.cancel()
