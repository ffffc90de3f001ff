"""The ONNX files of a trained classifier: calibration, folding, quantisation, graphs.

May import `networks` and `data`; must not import training code or read the test set.
"""

from dataclasses import dataclass

import onnx

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.export import quantize, temperature
from mlpserve_trainer.export.onnx_graph import to_onnx
from mlpserve_trainer.export.quantize import FoldedNetwork
from mlpserve_trainer.networks.mlp import MLP, Classifier


@dataclass(frozen=True)
class OnnxFile:
    """One ONNX file in memory, with the network that it was built from."""

    precision: Precision
    network: FoldedNetwork
    model: onnx.ModelProto


@dataclass(frozen=True)
class Exported:
    """What export makes of a trained classifier.

    Attributes:
        classifier: the calibrated network in PyTorch, with which the files are compared.
        temperature: divides the logits; 0 if the classifier was not calibrated.
        files: float32 first, then int8.
    """

    classifier: Classifier[MLP]
    temperature: float
    files: tuple[OnnxFile, ...]


def export(classifier: Classifier[MLP], dataset: Dataset, *, calibrate: bool) -> Exported:
    """Calibrate a trained classifier and build its ONNX files.

    Args:
        classifier: on the CPU; it is not changed.
        dataset: the validation images calibrate it, the training images fit the rounding of int8.
        calibrate: whether to apply temperature scaling.
    """
    divisor = 0.0
    if calibrate:
        divisor = temperature.fitted_temperature(classifier, dataset.validation)
        classifier = temperature.scaled(classifier, divisor)
    networks = {
        Precision.PRECISION_FP32: quantize.fold(classifier),
        Precision.PRECISION_INT8: quantize.fold_int8(classifier, dataset.train.images.numpy()),
    }
    files = tuple(OnnxFile(precision, network, to_onnx(network)) for precision, network in networks.items())
    return Exported(classifier, divisor, files)
