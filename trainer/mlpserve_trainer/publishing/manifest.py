"""The manifest of a version: the record of the run that made it."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

from mlpserve.v1 import artifact_pb2 as pb
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.evaluation.evaluate import Evaluated, no_better, reference
from mlpserve_trainer.export import Exported
from mlpserve_trainer.fitting.fit import Fit
from mlpserve_trainer.networks.mlp import MLP


def new_manifest(
    config: TrainConfig, dataset: Dataset, fit: Fit[MLP], exported: Exported, evaluated: Sequence[Evaluated]
) -> pb.Manifest:
    """The record of a run; `publish` adds version and files."""
    mlp = fit.classifier.mlp
    manifest = pb.Manifest(
        model=config.model,
        image=pb.ImageSpec(
            rows=dataset.rows,
            cols=dataset.cols,
            preparation=pb.PREPARATION_CENTRED_INK if dataset.centred_ink else pb.PREPARATION_SCALED,
        ),
        labels=dataset.labels,
        network=pb.Network(
            layers=mlp.sizes,
            activation=mlp.activation,
            parameters=mlp.parameter_count(),
        ),
        training=pb.Training(
            data=dataset.name,
            train_images=len(dataset.train),
            validation_images=len(dataset.validation),
            pixel_mean=dataset.mean,
            pixel_deviation=dataset.deviation,
            epochs=len(fit.epochs),
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=config.seed,
            device=fit.device,
            seconds=fit.seconds,
            validation_accuracy=fit.chosen.validation_accuracy,
            recipe=config.recipe,
            temperature=exported.temperature,
            teachers=config.teachers,
            teacher_kind=config.teacher_kind if config.teachers else "",
            start_channels=config.start_channels,
            teacher_layers=_teacher_layers(config, mlp),
            warp=config.warp,
            warnings=[*dataset.warnings, *no_better(evaluated, dataset.labels)],
        ),
        evaluations=[
            pb.Evaluation(
                precision=result.precision,
                test_images=int(result.confusion.sum()),
                test_accuracy=result.accuracy,
                max_difference=result.max_difference,
                agreement=result.agreement,
                calibration_error=result.calibration_error,
            )
            for result in evaluated
        ],
        tools={"python": platform.python_version()}
        | {name: version(name) for name in ("mlpserve", "numpy", "onnx", "torch", "torchvision")},
    )
    manifest.reference.CopyFrom(reference(exported.files[0], dataset.validation, len(dataset.labels)))
    manifest.created.GetCurrentTime()
    return manifest


def _teacher_layers(config: TrainConfig, mlp: MLP) -> tuple[int, ...]:
    """Units of each layer of an MLP teacher; empty for other teachers, and without one."""
    if not config.teachers or config.teacher_kind != "mlp":
        return ()
    return mlp.sizes[0], *config.teacher_hidden, mlp.sizes[-1]
