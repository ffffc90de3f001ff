"""`mlpserve-train`: the whole job, in order.

    mlpserve-train --store store                       # MNIST, 784-256-10
    mlpserve-train --data photos --image-size 28x28    # a folder with one folder of images for each class
    torchrun --nproc-per-node 2 -m mlpserve_trainer    # data-parallel, publishing once

The last line on standard output is the published folder. Exit codes: 0 published, 1 failed (the last line on standard
error says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from mlpserve.v1.artifact_pb2 import Manifest
    from mlpserve_trainer.data import Dataset
    from mlpserve_trainer.evaluate import Evaluated
    from mlpserve_trainer.fit import Epoch, Fit
    from mlpserve_trainer.mlp import Classifier


def main() -> None:
    """Entry point of `mlpserve-train`."""
    config = _parse(sys.argv[1:])
    try:
        folder = train(config)
        if folder is not None:
            print(folder)
    except ModuleNotFoundError as error:
        _exit(2, f"{error.name} is not installed; the trainer needs: pip install 'mlpserve[trainer,cpu]'")
    except TrainerError as error:
        _exit(1, str(error))
    except KeyboardInterrupt:
        _exit(130, "interrupted; nothing was published")


def train(config: TrainConfig) -> Path | None:
    """Run the job and return the published folder; None in the processes beside the first one under torchrun.

    Raises:
        TrainerError: with a sentence for the person who started it.
    """
    # Heavy imports wait until the flags are known to be good, so that --help answers at once.
    from mlpserve.v1.artifact_pb2 import FileRole, Precision
    from mlpserve_trainer import data, distributed, evaluate, export, publish, quantize, report, sign
    from mlpserve_trainer import fit as fitting

    group = distributed.from_environment()
    device = fitting.choose_device(config.device, group.local_rank)
    # A folder's name is checked again below, once the data has been read.
    present = publish.latest(config.store, config.model or Path(config.data).resolve().name)
    if config.if_missing and present is not None:
        if group.rank > 0:
            return None
        print(f"{present.parent.name} version {present.name} is in the store already; nothing to do")
        return present
    dataset = data.load(
        config.data,
        cache=config.data_cache,
        validation=config.validation,
        seed=config.seed,
        image_size=config.image_size,
    )
    model = config.model or dataset.name
    try:
        config = dataclasses.replace(config, model=model)
    except ConfigError as error:
        raise ConfigError(f"the folder's name {model!r} cannot be a model's name; give --model NAME") from error
    publish.check_store(config.store, model)
    signer = sign.signer(config.sign_key) if config.sign_key else None

    mlp = fitting.new_mlp(dataset, config)
    table = mlp.parameter_table()
    if group.rank == 0:
        where = f"{device.type}, {group.size} processes" if group.size > 1 else device.type
        print(_data_line(dataset))
        print(f"Network {'-'.join(map(str, mlp.sizes))}, {mlp.activation}, on {where}\n{table}", flush=True)

    def on_epoch(epoch: Epoch, _: Classifier) -> None:
        if group.rank == 0:
            _print_epoch(epoch)

    with distributed.joined(group, device):
        fit = fitting.fit(mlp, dataset, config, device, on_epoch, group)
    if group.rank > 0:
        return None

    networks = {
        Precision.PRECISION_FP32: quantize.fold(fit.classifier),
        Precision.PRECISION_INT8: quantize.fold_int8(fit.classifier),
    }
    exported = [
        evaluate.Exported(precision, network, export.to_onnx(network)) for precision, network in networks.items()
    ]
    evaluated = [evaluate.evaluate(item, fit.classifier, dataset.test) for item in exported]
    for result in evaluated:
        print(_result_line(result), flush=True)
    evaluate.check(evaluated, config.min_accuracy)
    golden = evaluate.golden_samples(exported, dataset.test)

    manifest = _manifest(config, dataset, fit, evaluated)
    manifest.reference.CopyFrom(evaluate.reference(exported[0], dataset.validation, len(dataset.labels)))
    findings = report.Findings(
        epochs=fit.epochs,
        best=fit.best.number,
        confusion=evaluated[0].confusion,
        images=dataset.test.images.numpy().reshape(-1, dataset.rows, dataset.cols),
        targets=dataset.test.targets.numpy(),
        probabilities=evaluated[0].probabilities,
        weights=fit.classifier.mlp.linears[0].weight.detach().numpy().T,
    )
    files = {
        "model.onnx": (FileRole.FILE_ROLE_MODEL_FP32, exported[0].model.SerializeToString()),
        "model.int8.onnx": (FileRole.FILE_ROLE_MODEL_INT8, exported[1].model.SerializeToString()),
        "golden.binpb": (FileRole.FILE_ROLE_GOLDEN_SAMPLES, golden.SerializeToString()),
        **report.report_files(manifest, table, findings),
    }
    folder = publish.publish(config.store, model, manifest, files, signer)
    print(f"Report {folder / 'report.html'}\nPublished {model} version {folder.name}")
    return folder


def _parse(arguments: list[str]) -> TrainConfig:
    """Flags to config; one flag for each field."""
    parser = argparse.ArgumentParser(
        prog="mlpserve-train",
        description="Train an MLP image classifier and publish it as a model artifact.",
    )
    for field in dataclasses.fields(TrainConfig):
        options = dict(field.metadata)
        if field.default not in ("", None, False) and "(default" not in options["help"]:
            shown = f"{field.default:.3g}" if isinstance(field.default, float) else field.default
            options["help"] += f" (default: {shown})"
        if not isinstance(field.default, bool):
            options["type"] = options.pop("parse", type(field.default))
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, **options)
    values = vars(parser.parse_args(arguments))
    try:
        return TrainConfig(**values)
    except ConfigError as error:
        parser.error(str(error))


def _manifest(config: TrainConfig, dataset: Dataset, fit: Fit, evaluated: list[Evaluated]) -> Manifest:
    """Everything that is recorded about the run; `publish` adds version and files."""
    import platform
    from importlib.metadata import version

    from mlpserve.v1 import artifact_pb2 as pb

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
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=config.seed,
            device=fit.device,
            seconds=fit.seconds,
            validation_accuracy=fit.best.validation_accuracy,
        ),
        evaluations=[
            pb.Evaluation(
                precision=result.precision,
                test_images=int(result.confusion.sum()),
                test_accuracy=result.accuracy,
                max_difference=result.max_difference,
                agreement=result.agreement,
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


def _print_epoch(epoch: Epoch) -> None:
    figures = f"Loss {epoch.loss:.4f}  validation {epoch.validation_accuracy:.2%}  {epoch.seconds:.1f} s"
    print(f"Epoch {epoch.number} {figures}", flush=True)


def _result_line(result: Evaluated) -> str:
    from mlpserve.v1.artifact_pb2 import Precision

    name = Precision.Name(result.precision).removeprefix("PRECISION_").lower()
    return (
        f"Test {name}: accuracy {result.accuracy:.2%}, {result.agreement:.2%} as PyTorch, "
        f"probabilities within {result.max_difference:.1e}"
    )


def _exit(code: int, message: str) -> None:
    print(f"mlpserve-train: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
