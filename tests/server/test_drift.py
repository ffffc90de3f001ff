"""Metrics that tell what is answered: by class, against the training's images, and under gRPC's common names."""

import math
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grpc_calls import channel, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape, scrape_when

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.artifact_pb2 import Reference
from mlpserve_server.models.runners import Predictions
from mlpserve_server.observe import drift
from mlpserve_server.observe.drift import DriftWindow, stability_index
from mlpserve_server.store.folder import Store


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=12))
def test_equal_distributions_have_no_index(counts: list[int]) -> None:
    assert stability_index(counts, counts) == 0
    assert stability_index([7 * count for count in counts], counts) == pytest.approx(0, abs=1e-9)


def test_index_of_known_distributions() -> None:
    expected = (0.75 - 0.5) * math.log(0.75 / 0.5) + (0.25 - 0.5) * math.log(0.25 / 0.5)
    assert stability_index([75, 25], [50, 50]) == pytest.approx(expected)
    assert stability_index([100, 0], [50, 50]) > 0.25


def _window(classes: int = 4) -> DriftWindow:
    reference = Reference(images=100, class_counts=[25] * classes, confidence_counts=[0, 10, 90], mean_ink=0.1)
    return DriftWindow(reference, pixels=10)


def _predictions(class_ids: list[int], score: float) -> Predictions:
    scores = np.full(len(class_ids), score, np.float32)
    return Predictions(np.array(class_ids, np.int32), scores, np.empty((len(class_ids), 4), np.float32))


def test_window_counts_a_sample_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(drift.time, "monotonic", lambda: now[0])
    window = _window()
    images = np.full((3, 10), 51, np.uint8)
    window.observe(images, _predictions([0, 0, 3], 1.0), now[0])
    window.observe(images, _predictions([1, 1, 1], 0.1), now[0] + 0.001)  # just after another one
    found = window.snapshot()
    assert (found["images"], found["classes"], found["confidence"]) == (3, [2, 0, 0, 1], [0, 0, 3])
    assert found["ink"] / found["images"] == pytest.approx(0.2)
    now[0] += 500
    window.observe(images[:1], _predictions([2], 0.5), now[0])
    assert window.snapshot()["classes"] == [2, 0, 1, 1]
    now[0] += 200
    assert window.snapshot()["classes"] == [0, 0, 1, 0]


def test_snapshots_of_workers_add_up() -> None:
    first, second = _window(), _window()
    first.observe(np.zeros((1, 10), np.uint8), _predictions([1], 0.9), 1e9)
    second.observe(np.zeros((2, 10), np.uint8), _predictions([1, 2], 0.9), 1e9)
    total = drift.add(first.snapshot(), second.snapshot())
    assert (total["images"], total["classes"]) == (3, [0, 2, 1, 0])
    other = _window(classes=5).snapshot()
    assert drift.add(total, other) == other, "of another model"
    assert drift.add({}, total) == drift.add(total, {}) == total


def test_manifest_has_a_reference(store: Path) -> None:
    reference = Store(store).open("mnist").manifest.reference
    assert sum(reference.class_counts) == sum(reference.confidence_counts) == reference.images == 5000
    assert 0.12 < reference.mean_ink < 0.14
    assert min(reference.class_counts) > 350


def test_a_server_exports_them(transport: str, store: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--metrics-listen", address]
    with ServerProcess(tmp_path, store, *flags) as process, stub(process.address) as caller:
        assert "mlpserve_drift_psi" not in " ".join(scrape(address))
        images = mnist_images()[:2000]
        answers = []
        for start in range(0, 2000, 8):
            answers.append(caller.Predict(pb.PredictRequest(images=pixels(images[start : start + 8])), timeout=20))
            time.sleep(0.003)  # a sample is taken every so often, and a fast machine would be done before the second
        request = oip.ModelInferRequest(model_name="mnist", raw_input_contents=[pixels(images[:1])])
        request.inputs.add(name="images", datatype="UINT8", shape=[1, 784])
        with channel(process.address) as opened:
            opened.unary_unary("/inference.GRPCInferenceService/ModelInfer")(request.SerializeToString(), timeout=10)
        seen = "grpc_server_handling_seconds_count"
        samples = scrape_when(address, lambda now: sum(now[name] for name in now if name.startswith(seen)) >= 251)
        counts = np.bincount([class_id for answer in answers for class_id in answer.class_ids], minlength=10)
        exported = [samples[f'mlpserve_predictions_total{{class_id="{index}"}}'] for index in range(10)]
        assert sum(exported) == 2001
        assert np.abs(np.array(exported) - counts).sum() == 1, "one more by ModelInfer"
        assert samples["mlpserve_drift_images"] > 60
        assert samples['mlpserve_drift_ink{of="window"}'] == pytest.approx(0.13, abs=0.03)
        labels = [name for name in samples if name.startswith("grpc_server_handled_total")]
        assert len(labels) == 2, labels
        assert sum(samples[name] for name in labels) == 251
        assert sum(value for name, value in samples.items() if name.startswith("grpc_server_started_total")) == 251
        seconds = [value for name, value in samples.items() if name.startswith("grpc_server_handling_seconds_count")]
        assert sorted(filter(None, seconds)) == [1, 250], "none of batch traffic"
        # Ones only: another distribution than the training's.
        ones = images[np.array([class_id for answer in answers for class_id in answer.class_ids]) == 1]
        for _ in range(20):
            for image in ones[:50]:
                caller.Predict(pb.PredictRequest(images=pixels(image[None].repeat(32, axis=0))), timeout=20)
        assert scrape(address)['mlpserve_drift_psi{of="classes"}'] > 0.25
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=5)
