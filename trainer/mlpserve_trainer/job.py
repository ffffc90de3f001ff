"""The whole job, in order: data → fit → export → evaluate → publish."""

from __future__ import annotations

import dataclasses
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlpserve.v1 import artifact_pb2 as pb
from mlpserve.v1.artifact_pb2 import FileRole, Manifest, Precision
from mlpserve_trainer import (
    calibrate,
    data,
    distributed,
    evaluate,
    export,
    learnt,
    logs,
    publish,
    quantize,
    report,
    robustness,
    sign,
    stages,
)
from mlpserve_trainer.checkpoint import Checkpoint
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.evaluate import Evaluated
from mlpserve_trainer.fit import Epoch, Fit, choose_device, new_mlp
from mlpserve_trainer.mlp import MLP, Classifier


def train(config: TrainConfig) -> Path | None:
    """Run the job and return the published folder; None in the processes beside the first one under torchrun.

    Raises:
        TrainerError: with a sentence for the person who started it.
    """
    group = distributed.from_environment()
    device = choose_device(config.device, group.local_rank)
    # A name taken from a path is checked again below, once the data has been read.
    present = publish.latest(config.store, config.model or data.name_of(config.data))
    if config.if_missing and present is not None:
        if group.rank > 0:
            return None
        print(f"{present.parent.name} version {present.name} is in the store already; nothing to do")
        return present
    dataset = data.load_configured(config)
    config = with_model_name(config, dataset)
    publish.check_store(config.store, config.model)
    signer = sign.signer(config.sign_key) if config.sign_key else None

    mlp = new_mlp(dataset, config)
    table = mlp.parameter_table()
    if group.rank == 0:
        where = f"{device.type}, {group.size} processes" if group.size > 1 else device.type
        print(_data_line(dataset))
        for warning in dataset.warnings:
            print(f"mlpserve-train: warning: {warning}", file=sys.stderr)
        print(f"Network {'-'.join(map(str, mlp.sizes))}, {mlp.activation}, recipe {config.recipe}, on {where}\n{table}")
        sys.stdout.flush()

    checkpoint = Checkpoint(config, stages.identify(dataset) | {"device": device.type, "processes": group.size})
    with distributed.joined(group, device), logs.tensorboard(config, group) as log:

        def on_epoch(stage: str, epoch: Epoch, _: Classifier[Any]) -> None:
            if group.rank == 0:
                _print_epoch(stage, epoch)
                log(stage, epoch)

        fit = stages.run(dataset, config, device, on_epoch, group, checkpoint)
    if group.rank > 0:
        return None

    temperature = 0.0
    if config.calibrate == "yes":
        temperature = calibrate.temperature(fit.classifier, dataset.validation)
        calibrate.divide_logits(fit.classifier, temperature)
    networks = {
        Precision.PRECISION_FP32: quantize.fold(fit.classifier),
        Precision.PRECISION_INT8: quantize.fold_int8(fit.classifier, dataset.train.images.numpy()),
    }
    exported = [
        evaluate.Exported(precision, network, export.to_onnx(network)) for precision, network in networks.items()
    ]
    evaluated = [evaluate.evaluate(item, fit.classifier, dataset.test) for item in exported]
    for result in evaluated:
        print(_result_line(result), flush=True)
    evaluate.check(evaluated, config.min_accuracy)
    golden = evaluate.golden_samples(exported, dataset.test)

    manifest = _manifest(config, dataset, fit, evaluated, temperature)
    manifest.reference.CopyFrom(evaluate.reference(exported[0], dataset.validation, len(dataset.labels)))
    findings = report.Findings(
        epochs=fit.epochs,
        published=fit.chosen.number,
        confusion=evaluated[0].confusion,
        images=dataset.test.images.numpy().reshape(-1, dataset.rows, dataset.cols),
        targets=dataset.test.targets.numpy(),
        probabilities=evaluated[0].probabilities,
        weights=[layer.weight.detach().numpy().T for layer in fit.classifier.mlp.linears],
        exciting=learnt.exciting_images(fit.classifier, dataset),
        robustness=robustness.curves(
            dataset, lambda images: evaluate.answers(exported[0], images).argmax(axis=1).astype("int64")
        ),
    )
    files = {
        "model.onnx": (FileRole.FILE_ROLE_MODEL_FP32, exported[0].model.SerializeToString()),
        "model.int8.onnx": (FileRole.FILE_ROLE_MODEL_INT8, exported[1].model.SerializeToString()),
        "golden.binpb": (FileRole.FILE_ROLE_GOLDEN_SAMPLES, golden.SerializeToString()),
        **report.report_files(manifest, table, findings),
    }
    folder = publish.publish(config.store, config.model, manifest, files, signer)
    checkpoint.remove()
    print(f"Report {folder / 'report.html'}\nPublished {config.model} version {folder.name}")
    return folder


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


def _teacher_layers(config: TrainConfig, mlp: MLP) -> tuple[int, ...]:
    """Units of each layer of an MLP that taught; empty for others and for none."""
    if not config.teachers or config.teacher_kind != "mlp":
        return ()
    return mlp.sizes[0], *config.teacher_hidden, mlp.sizes[-1]


def _manifest(
    config: TrainConfig, dataset: Dataset, fit: Fit[MLP], evaluated: list[Evaluated], temperature: float
) -> Manifest:
    """Everything that is recorded about the run; `publish` adds version and files."""
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
            temperature=temperature,
            teachers=config.teachers,
            teacher_kind=config.teacher_kind if config.teachers else "",
            start_channels=config.start_channels,
            teacher_layers=_teacher_layers(config, mlp),
            warp=config.warp,
            warnings=dataset.warnings,
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
    manifest.created.GetCurrentTime()
    return manifest


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
