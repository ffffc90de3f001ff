"""The files of a version: ONNX, golden samples, report with pictures, and manifest."""

from collections.abc import Sequence

from mlpserve.v1.artifact_pb2 import FileRole, Manifest
from mlpserve_trainer import report
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.evaluation.evaluate import Evaluated
from mlpserve_trainer.evaluation.golden import golden_samples
from mlpserve_trainer.export import Exported
from mlpserve_trainer.fitting.fit import Fit
from mlpserve_trainer.networks.mlp import MLP
from mlpserve_trainer.publishing.manifest import new_manifest

Files = dict[str, tuple[FileRole, bytes]]


def contents(
    config: TrainConfig, dataset: Dataset, fit: Fit[MLP], exported: Exported, evaluated: Sequence[Evaluated]
) -> tuple[Manifest, Files]:
    """The manifest, for `publish` to complete, and every other file: path inside the artifact to role and content.

    Raises:
        GateError: a file's answers differ from exact arithmetic over its own weights, on this machine.
    """
    golden = golden_samples(exported.files, dataset.test)
    manifest = new_manifest(config, dataset, fit, exported, evaluated)
    findings = report.gather(dataset, fit, exported, evaluated)
    fp32, int8 = exported.files
    return manifest, {
        "model.onnx": (FileRole.FILE_ROLE_MODEL_FP32, fp32.model.SerializeToString()),
        "model.int8.onnx": (FileRole.FILE_ROLE_MODEL_INT8, int8.model.SerializeToString()),
        "golden.binpb": (FileRole.FILE_ROLE_GOLDEN_SAMPLES, golden.SerializeToString()),
        **report.report_files(manifest, fit.classifier.mlp.parameter_table(), findings),
    }
