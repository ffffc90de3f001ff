"""The whole job, in order: data → fit → export → evaluate → publish."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_trainer import data, progress, publishing
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.evaluation import evaluate
from mlpserve_trainer.evaluation.evaluate import Evaluated
from mlpserve_trainer.export import Exported, export
from mlpserve_trainer.fitting import distributed, stages, tensorboard
from mlpserve_trainer.fitting.checkpoint import Checkpoint
from mlpserve_trainer.fitting.fit import Epoch, Fit
from mlpserve_trainer.fitting.placement import Placement, choose_device
from mlpserve_trainer.networks.build import new_mlp
from mlpserve_trainer.networks.mlp import MLP, Classifier
from mlpserve_trainer.publishing import publish, sign


def train(config: TrainConfig) -> Path | None:
    """Run the job and return the published folder; None in the processes beside the first one under torchrun.

    Raises:
        TrainerError: with a sentence for the person who started it.
    """
    group = distributed.from_environment()
    placement = Placement(choose_device(config.device, group.local_rank), group)
    # A name taken from a path is checked again below, once the data has been read.
    progress.show(placement.leads and not config.quiet)
    present = publish.latest(config.store, config.model or data.name_of(config.data)) if config.if_missing else None
    if present is not None:
        return _say_present(present) if placement.leads else None
    dataset = data.load_configured(config)
    config = with_model_name(config, dataset)
    publish.check_store(config.store, config.model)
    signer = sign.signer(config.sign_key) if config.sign_key else None
    checkpoint = Checkpoint(config, stages.identify(dataset, placement))

    fit = _fit(dataset, config, placement, checkpoint)
    if not placement.leads:
        return None
    with progress.during("Exporting to ONNX, quantising and calibrating"):
        exported = export(fit.classifier, dataset, calibrate=config.calibrate == "yes")
    evaluated = _evaluate(exported, dataset, config.min_accuracy)
    with progress.during("Analysing the model and drawing the report"):
        manifest, files = publishing.contents(config, dataset, fit, exported, evaluated)
    with progress.during("Publishing"):
        folder = publish.publish(config.store, config.model, manifest, files, signer)
    checkpoint.remove()
    print(f"Report {folder / 'report.html'}\nPublished {config.model} version {folder.name}")
    return folder


def _say_present(folder: Path) -> Path:
    print(f"{folder.parent.name} version {folder.name} is in the store already; nothing to do")
    return folder


def _fit(dataset: Dataset, config: TrainConfig, placement: Placement, checkpoint: Checkpoint) -> Fit[MLP]:
    """Say what is trained on what, then fit it, with a line for each epoch."""
    mlp = new_mlp(dataset, config)
    if placement.leads:
        print(_data_line(dataset))
        if said := dataset.sources.sentence():
            print(said)
        for warning in dataset.warnings:
            print(f"mlpserve-train: warning: {warning}", file=sys.stderr)
        print(
            f"Network {'-'.join(map(str, mlp.sizes))}, {mlp.activation}, recipe {config.recipe}, "
            f"on {placement.describe()}\n{mlp.parameter_table()}",
            flush=True,
        )
    with distributed.joined(placement.group, placement.device), tensorboard.opened(config, placement.group) as log:

        def on_epoch(stage: str, epoch: Epoch, _: Classifier[Any]) -> None:
            if placement.leads:
                _print_epoch(stage, epoch)
                log(stage, epoch)

        return stages.run(mlp, dataset, config, placement, on_epoch, checkpoint)


def _evaluate(exported: Exported, dataset: Dataset, min_accuracy: float) -> list[Evaluated]:
    """The files on the test set, with a line for each.

    Raises:
        GateError: they must not be published.
    """
    with progress.during("Evaluating on the test images"):
        evaluated = [evaluate.evaluate(file, exported.classifier, dataset.test) for file in exported.files]
    for result in evaluated:
        print(_result_line(result), flush=True)
    class_id, share = evaluate.majority(evaluated[0].confusion)
    print(f"Always answering {dataset.labels[class_id]!r}, the most frequent class, would be right for {share:.2%}")
    for warning in evaluate.no_better(evaluated, dataset.labels):
        print(f"mlpserve-train: warning: {warning}", file=sys.stderr)
    evaluate.check(evaluated, min_accuracy)
    return evaluated


def with_model_name(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The configuration with the data set's name as the model's, unless it has one.

    Raises:
        ConfigError: the data set's name cannot be a model's.
    """
    model = config.model or dataset.name
    try:
        return dataclasses.replace(config, model=model)
    except ConfigError as error:
        raise ConfigError(f"the data's name {model!r} cannot be a model's name; give --model NAME") from error


def _data_line(dataset: Dataset) -> str:
    return (
        f"Data {dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
        f"{len(dataset.test):,} test images of {dataset.rows}x{dataset.cols}, {len(dataset.labels)} classes"
    )


def _print_epoch(stage: str, epoch: Epoch) -> None:
    figures = f"Loss {epoch.loss:.4f}  validation {epoch.validation_accuracy:.2%}  {epoch.seconds:.1f} s"
    print(f"{stage}{' ' if stage else ''}Epoch {epoch.number} {figures}", flush=True)


def _result_line(result: Evaluated) -> str:
    name = Precision.Name(result.precision).removeprefix("PRECISION_").lower()
    return (
        f"Test {name}: accuracy {result.accuracy:.2%}, {result.agreement:.2%} as PyTorch, "
        f"probabilities within {result.max_difference:.1e}, calibration error {result.calibration_error:.2%}"
    )
