"""Hyperparameter search by validation accuracy: `mlpserve-train sweep`.

Optuna runs the trials on this machine, or Ray Tune on a cluster. A sweep does not use the test set; it prints the
command that trains and evaluates the best settings.
"""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mlpserve_trainer import data
from mlpserve_trainer.config import TrainConfig, configure
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.errors import ConfigError, TrainerError
from mlpserve_trainer.fitting import stages
from mlpserve_trainer.fitting.placement import Placement, choose_device
from mlpserve_trainer.networks.build import new_mlp

FIXED = {
    *("store", "model", "data", "data_cache", "image_size", "device", "resume", "validation", "recipe", "tensorboard"),
    *("sign_key", "min_accuracy", "if_missing", "on_interrupt", "calibrate", "quiet"),
}
NOT_THE_FIT = {"store", "model", "data_cache", "device", "resume", "tensorboard", "if_missing", "sign_key", "quiet"}


@dataclass(frozen=True)
class Choice:
    """The search space of one setting.

    Attributes:
        name: a field of TrainConfig.
        values: strings to choose from; empty for a range.
        low, high: ends of a range, searched on a logarithmic scale.
        whole: whether the values are integers.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False


@dataclass(frozen=True)
class Trial:
    """The settings of a trial, as strings, and its validation accuracy; None if it failed."""

    settings: dict[str, str]
    accuracy: float | None
    loss: float | None


def sweep(
    config: TrainConfig, *, vary: list[str], trials: int, sweep_store: str, ray: str | None, output: Path | None
) -> Path | None:
    """Run the trials, then print the best ones and the command that trains with the best.

    Args:
        config: the settings that all trials share.
        vary: "flag=values", see `parse_choice`.
        trials: number of trials.
        sweep_store: Optuna's storage URL; empty: in memory.
        ray: address of a Ray cluster; None for Optuna.
        output: JSON file for all trials.

    Returns:
        `output`.

    Raises:
        ConfigError: a choice cannot be parsed, or Optuna or Ray is not installed.
        TrainerError: the data cannot be read, or every trial failed.
    """
    choices = [parse_choice(text) for text in vary]
    if trials < 1:
        raise ConfigError("--trials must be at least 1")
    if ray is not None and sweep_store:
        raise ConfigError("--sweep-store is for Optuna; with --ray the cluster stores the trials")
    dataset = data.load_configured(config)
    for choice in choices:  # report an invalid value now, not in every trial
        for text in choice.values:
            configured(config, {choice.name: text})
    if ray is None:
        done = _with_optuna(config, dataset, choices, trials, sweep_store)
    else:
        done = _with_ray(config, dataset, choices, trials, ray)
    finished = sorted((trial for trial in done if trial.accuracy is not None), key=_rank)
    if not finished:
        raise TrainerError("every trial failed; the reasons are above")
    _print(finished, len(done), config)
    if output is None:
        return None
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps([dataclasses.asdict(trial) for trial in [*finished, *_failed(done)]], indent=1) + "\n")
    return output


def parse_choice(text: str) -> Choice:
    """Parse "hidden=128,256", "hidden=256;512,256" or "learning-rate=1e-4..1e-2".

    Raises:
        ConfigError: it has another form, or the flag cannot vary.
    """
    name, separator, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    field = next((field for field in dataclasses.fields(TrainConfig) if field.name == name), None)
    if not separator or field is None or name in FIXED:
        raise ConfigError(f"--vary {text}: expected FLAG=VALUES with a flag of the fit, for example hidden=128,256")
    if ".." in values:
        low, _, high = values.partition("..")
        try:
            choice = Choice(name, (), float(low), float(high), isinstance(field.default, int))
        except ValueError as error:
            raise ConfigError(f"--vary {text}: the ends of a range are numbers, for example 1e-4..1e-2") from error
        if not 0 < choice.low < choice.high or not isinstance(field.default, int | float):
            raise ConfigError(f"--vary {text}: a range goes from a number above 0 to a larger one")
        return choice
    parts = values.split(";") if ";" in values else values.split(",")
    return Choice(name, tuple(part.strip() for part in parts))


def configured(config: TrainConfig, settings: Mapping[str, str]) -> TrainConfig:
    """The configuration of one trial, from strings as on the command line.

    Raises:
        ConfigError: a value cannot work.
    """
    parsed: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        if field.name in settings:
            parse = field.metadata.get("parse", type(field.default))
            try:
                parsed[field.name] = parse(settings[field.name])
            except ValueError as error:
                flag = field.name.replace("_", "-")
                raise ConfigError(
                    f"--vary {flag}: {settings[field.name]!r} is not a valid value of --{flag}"
                ) from error
    return dataclasses.replace(config, **parsed)


def _run_trial(config: TrainConfig, dataset: Dataset, settings: Mapping[str, str]) -> tuple[float, float]:
    """Validation accuracy and loss of one trial."""
    trial = dataclasses.replace(configured(config, settings), on_interrupt="stop")
    fit = stages.run(new_mlp(dataset, trial), dataset, trial, Placement(choose_device(trial.device)))
    return fit.chosen.validation_accuracy, fit.chosen.validation_loss


def _text(choice: Choice, value: float) -> str:
    return str(round(value)) if choice.whole else f"{value:.6g}"


def _with_optuna(
    config: TrainConfig, dataset: Dataset, choices: list[Choice], trials: int, storage: str
) -> list[Trial]:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("sweep needs: pip install 'mlpserve[sweep]' (or --ray, and mlpserve[ray])") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done: list[Trial] = []

    def suggest(trial: "optuna.Trial", choice: Choice) -> str:
        if choice.values:
            return str(trial.suggest_categorical(choice.name, choice.values))
        return _text(choice, trial.suggest_float(choice.name, choice.low, choice.high, log=True))

    def objective(trial: "optuna.Trial") -> float:
        settings = {choice.name: suggest(trial, choice) for choice in choices}
        try:
            accuracy, loss = _run_trial(config, dataset, settings)
        except TrainerError as error:
            print(f"Trial {trial.number + 1}: {_shown(settings)}: {error}", flush=True)
            raise
        print(f"Trial {trial.number + 1}: validation {accuracy:.2%}, loss {loss:.4f}  {_shown(settings)}", flush=True)
        trial.set_user_attr("settings", settings)
        trial.set_user_attr("loss", loss)
        return accuracy

    try:
        study = optuna.create_study(
            study_name=_study_name(config, choices),
            storage=storage or None,
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=config.seed),
        )
    except Exception as error:  # of SQLAlchemy, which Optuna does not wrap
        raise ConfigError(f"--sweep-store {storage}: {str(error).splitlines()[0]}") from error
    study.optimize(objective, n_trials=trials, catch=(TrainerError,))
    for trial in study.trials:
        settings = trial.user_attrs.get("settings", {name: str(value) for name, value in trial.params.items()})
        done.append(Trial(settings, trial.value, trial.user_attrs.get("loss")))
    return done


def _study_name(config: TrainConfig, choices: list[Choice]) -> str:
    """The same name for a continued sweep; another one for other settings, whose trials are not comparable."""
    fixed = {name: str(value) for name, value in dataclasses.asdict(config).items() if name not in NOT_THE_FIT}
    key = hashlib.sha256(repr((sorted(fixed.items()), choices)).encode()).hexdigest()[:10]
    return f"mlpserve-{Path(config.data).name}-{config.recipe}-{key}"


def _with_ray(config: TrainConfig, dataset: Dataset, choices: list[Choice], trials: int, address: str) -> list[Trial]:
    try:
        import ray
        from ray import tune
    except ModuleNotFoundError as error:
        raise ConfigError("--ray needs: pip install 'mlpserve[ray]'") from error
    try:
        ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--ray {address}: {str(error).splitlines()[0]}; expected host:port, auto, or local"
        ) from error
    try:
        shared = ray.put(dataset)

        def objective(drawn: dict[str, Any]) -> dict[str, Any]:
            torch.set_num_threads(1)  # a trial has one of the cluster's CPUs
            settings = {
                choice.name: drawn[choice.name] if choice.values else _text(choice, drawn[choice.name])
                for choice in choices
            }
            accuracy, loss = _run_trial(config, ray.get(shared), settings)
            return {"accuracy": accuracy, "loss": loss, "settings": settings}

        space = {
            choice.name: tune.choice(choice.values) if choice.values else tune.loguniform(choice.low, choice.high)
            for choice in choices
        }
        gpus: float = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
        wants_gpu = config.device == "cuda" or (config.device == "auto" and gpus > 0)
        tuner = tune.Tuner(
            tune.with_resources(objective, {"cpu": 1, "gpu": int(wants_gpu)}),
            param_space=space,
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", num_samples=trials),
            run_config=tune.RunConfig(verbose=0),
        )
        results = tuner.fit()
    finally:
        ray.shutdown()
    done = []
    for number in range(len(results)):
        result = results[number]
        metrics = result.metrics or {}
        if result.error is not None or "accuracy" not in metrics:
            reason = str(result.error or "no result").strip().splitlines()[-1]
            print(f"Trial {number + 1}: {reason}", flush=True)
            done.append(Trial({}, None, None))
            continue
        done.append(Trial(metrics["settings"], metrics["accuracy"], metrics["loss"]))
    return done


def _rank(trial: Trial) -> tuple[float, float]:
    return -(trial.accuracy or 0.0), trial.loss or 0.0


def _failed(done: list[Trial]) -> list[Trial]:
    return [trial for trial in done if trial.accuracy is None]


def _shown(settings: Mapping[str, str]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())


def _print(finished: list[Trial], count: int, config: TrainConfig) -> None:
    print(f"\n{len(finished)} of {count} trials finished; the best by validation accuracy:")
    for trial in finished[:5]:
        print(f"  {trial.accuracy:.2%}, loss {trial.loss:.4f}  {_shown(trial.settings)}")
    print(f"Train with the best: {_command(config, finished[0].settings)}")


def _command(config: TrainConfig, settings: Mapping[str, str]) -> str:
    """The command that trains with a trial's settings."""
    command = ["mlpserve-train", "--recipe", config.recipe, "--data", config.data, "--store", str(config.store)]
    recipe = configure(config.recipe)
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name in ("recipe", "data", "store", "resume", *settings) or value == getattr(recipe, field.name):
            continue
        text = str(value)
        if isinstance(value, tuple):
            text = ("x" if field.name == "image_size" else ",").join(map(str, value)) or "none"
        command += [f"--{field.name.replace('_', '-')}", *([] if value is True else [text])]
    return f"{shlex.join(command)} {_shown(settings)}"
