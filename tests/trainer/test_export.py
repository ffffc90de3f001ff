"""Exported files against PyTorch and against exact arithmetic."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.cuda_kernels import KERNELS

from mlpserve.v1.artifact_pb2 import GoldenSamples, Precision
from mlpserve_trainer.data import Split
from mlpserve_trainer.errors import GateError
from mlpserve_trainer.evaluation.evaluate import Evaluated, check, evaluate
from mlpserve_trainer.evaluation.golden import golden_samples
from mlpserve_trainer.export import OnnxFile
from mlpserve_trainer.export.onnx_graph import to_onnx
from mlpserve_trainer.export.quantize import WEIGHT_LIMIT, Dense, FoldedNetwork, fold, fold_int8
from mlpserve_trainer.networks.mlp import MLP, Classifier

networks = st.builds(
    lambda hidden, classes, activation, seed: (hidden, classes, activation, seed),
    st.lists(st.integers(1, 40), max_size=3).map(tuple),
    st.integers(1, 12),
    st.sampled_from(["relu", "sigmoid", "tanh", "gelu"]),
    st.integers(0, 2**31),
)


def _classifier(hidden: tuple[int, ...], classes: int, activation: str, seed: int) -> Classifier:
    torch.manual_seed(seed)
    mlp = MLP(36, hidden, classes, activation)
    for layer in mlp.linears:
        torch.nn.init.normal_(layer.bias)
    return Classifier(mlp, 0.2, 0.3).requires_grad_(False)


def _run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:  # type: ignore[type-arg]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(["class_ids", "scores", "probabilities"], {"images": images})  # type: ignore[type-arg]
    return outputs


@settings(max_examples=40, deadline=None)
@given(networks)
def test_float32_file_answers_as_pytorch(network: tuple[tuple[int, ...], int, str, int]) -> None:
    classifier = _classifier(*network)
    images = np.random.default_rng(network[3]).integers(0, 256, (9, 36)).astype(np.uint8)
    class_ids, scores, probabilities = _run(to_onnx(fold(classifier)), images)
    expected = classifier(torch.from_numpy(images)).numpy()
    assert np.abs(probabilities - expected).max() < 1e-5
    assert np.array_equal(class_ids, probabilities.argmax(axis=1))
    assert np.array_equal(scores, probabilities.max(axis=1))


@settings(max_examples=40, deadline=None)
@given(networks)
def test_int8_file_is_exact_over_its_own_weights(network: tuple[tuple[int, ...], int, str, int]) -> None:
    images = np.random.default_rng(network[3]).integers(0, 256, (9, 36)).astype(np.uint8)
    folded = fold_int8(_classifier(*network), images)
    _, _, probabilities = _run(to_onnx(folded), images)
    assert np.abs(probabilities - folded.probabilities(images)).max() < 1e-5
    assert np.abs(folded.layers[0].weights.astype(int)).max() <= WEIGHT_LIMIT


def _worst_case(weight: int, pixels: int = 784, units: int = 256) -> tuple[FoldedNetwork, np.ndarray]:  # type: ignore[type-arg]
    """Weights all at ±`weight` and rows of bright pixels: the largest sums that two neighbours can give."""
    signs = np.where(np.random.default_rng(0).integers(0, 2, (1, units)) > 0, 1, -1)
    weights = (np.ones((pixels, units), int) * signs * weight).astype(np.int8)
    scale = np.full(units, 1 / (255 * weight * pixels), np.float32)
    classes = np.random.default_rng(1).normal(0, 1, (units, 10)).astype(np.float32)
    layers = (Dense(weights, np.zeros(units, np.float32), scale), Dense(classes, np.zeros(10, np.float32)))
    images = np.full((3, pixels), 255, np.uint8)
    images[1, pixels // 2 :] = 0
    images[2, ::3] = 0
    return FoldedNetwork(layers, "relu"), images


def test_worst_case_pixels_and_weights_are_exact_on_this_cpu() -> None:
    network, images = _worst_case(WEIGHT_LIMIT)
    _, _, probabilities = _run(to_onnx(network), images)
    assert np.abs(probabilities - network.probabilities(images)).max() < 1e-5


def test_two_products_within_the_weight_limit_fit_int16() -> None:
    assert np.iinfo(np.int16).max >= 2 * 255 * WEIGHT_LIMIT


def test_interface_and_versions_are_pinned() -> None:
    model = to_onnx(fold(_classifier((5,), 3, "relu", 0)))
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    assert [item.name for item in model.graph.input] == ["images"]
    assert [item.name for item in model.graph.output] == ["class_ids", "scores", "probabilities"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_a_gpu_computes_float32_files_without_cudnn(activation: str) -> None:
    for hidden in ((), (5,), (5, 4)):
        for classes in (2, 3, 10, 33, 100, 1024, 1025, 1500):
            model = to_onnx(fold(_classifier(hidden, classes, activation, 0)))
            assert {node.op_type for node in model.graph.node} <= KERNELS.keys(), (hidden, classes)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("classes", [2, 10, 1500])
def test_of_classes_that_are_as_good_the_first_is_the_answer(classes: int, int8: bool) -> None:
    """Columns 1 and the last are one and the same class, which is the best; for two classes all are."""
    first = np.zeros((36, classes), np.int8 if int8 else np.float32)
    first[:, [1 % classes, -1]] = 1
    if classes == 2:
        first[:] = 1
    layer = Dense(first, np.zeros(classes, np.float32), np.full(classes, 0.01, np.float32) if int8 else None)
    class_ids, scores, probabilities = _run(to_onnx(FoldedNetwork((layer,), "relu")), np.full((70, 36), 9, np.uint8))
    assert class_ids.tolist() == [0 if classes == 2 else 1] * 70
    assert np.array_equal(scores, probabilities[:, -1])


# --- evaluation, gates and golden samples --------------------------------------------------------------------------


@pytest.fixture
def exported() -> tuple[Classifier, list[OnnxFile], Split]:
    classifier = _classifier((20,), 4, "relu", 1)
    images = torch.randint(0, 256, (200, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    int8 = fold_int8(classifier, images.numpy())
    pairs = [(Precision.PRECISION_FP32, fold(classifier)), (Precision.PRECISION_INT8, int8)]
    test = Split(images, classifier(images).argmax(dim=1))
    return classifier, [OnnxFile(precision, network, to_onnx(network)) for precision, network in pairs], test


def test_evaluation_counts(exported: tuple[Classifier, list[OnnxFile], Split]) -> None:
    classifier, files, test = exported
    result = evaluate(files[0], classifier, test)
    assert (result.accuracy, result.agreement) == (1.0, 1.0)
    assert result.confusion.sum() == 200
    assert np.array_equal(result.confusion.sum(axis=1), np.bincount(test.targets.numpy(), minlength=4))


def test_gate_refuses_a_file_that_differs_from_pytorch(exported: tuple[Classifier, list[OnnxFile], Split]) -> None:
    classifier, files, test = exported
    other = fold(_classifier((20,), 4, "relu", 2))
    wrong = OnnxFile(Precision.PRECISION_FP32, other, to_onnx(other))
    with pytest.raises(GateError, match="the fp32 file does not agree with PyTorch"):
        check([evaluate(wrong, classifier, test)], min_accuracy=0)
    check([evaluate(file, classifier, test) for file in files[:1]], min_accuracy=0.99)


def _evaluated(precision: Precision, accuracy: float) -> Evaluated:
    empty = np.zeros((10_000, 2), np.float32)
    return Evaluated(precision, empty, accuracy, 0.0, 1.0, np.zeros((2, 2), np.int64))


def test_gate_refuses_low_accuracy_and_lossy_int8() -> None:
    with pytest.raises(GateError, match=r"97\.00%, below --min-accuracy 98\.00%"):
        check([_evaluated(Precision.PRECISION_FP32, 0.97)], min_accuracy=0.98)
    with pytest.raises(GateError, match=r"the int8 file reaches 96\.00%"):
        check([_evaluated(Precision.PRECISION_FP32, 0.97), _evaluated(Precision.PRECISION_INT8, 0.96)], min_accuracy=0)


def test_golden_samples_hold_extreme_images_and_both_answers(
    exported: tuple[Classifier, list[OnnxFile], Split],
) -> None:
    _, files, test = exported
    golden = GoldenSamples.FromString(golden_samples(files, test).SerializeToString())
    images = np.frombuffer(golden.images, np.uint8).reshape(-1, 36)
    assert any((image == 255).all() for image in images)
    assert [answers.precision for answers in golden.answers] == [1, 2]
    assert all(len(answers.probabilities) == 4 * len(images) for answers in golden.answers)


def test_golden_samples_refuse_a_file_that_is_wrong_on_this_machine(
    exported: tuple[Classifier, list[OnnxFile], Split],
) -> None:
    _, files, test = exported
    wrong = OnnxFile(files[0].precision, files[1].network, to_onnx(fold(_classifier((20,), 4, "relu", 2))))
    with pytest.raises(GateError, match="from exact arithmetic"):
        golden_samples([wrong], test)
