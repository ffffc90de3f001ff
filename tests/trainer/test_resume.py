"""Runs that are killed, interrupted and gone on with."""

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from support.mnist import write_class_folders
from support.processes import BIN, run

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.fitting.checkpoint import Checkpoint
from mlpserve_trainer.fitting.fit import Epoch
from mlpserve_trainer.fitting.placement import Placement
from mlpserve_trainer.fitting.stages import identify
from mlpserve_trainer.fitting.stages import run as run_stages
from mlpserve_trainer.networks.build import new_mlp

HERE = Placement(torch.device("cpu"))
SETTINGS = {"epochs": 4, "batch_size": 16, "warp": 1.0, "teachers": 2, "teacher_hidden": (24,), "teacher_epochs": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("digits"), per_class=30)


@pytest.fixture(scope="module")
def digits(folder: Path) -> Dataset:
    return load(str(folder), cache=folder, validation=0.2, seed=0, image_size=None)


class Killed(Exception):
    """Stands for the end of the process."""


OTHER_STAGES = {
    "mlp teachers": {"teacher_kind": "mlp"},
    "convolutional teachers": {"teacher_kind": "convolutional"},
    "start": {"teachers": 1, "teacher_kind": "convolutional", "start_channels": (2, 3), "start_epochs": 3},
}


@pytest.mark.parametrize("stages", OTHER_STAGES)
@pytest.mark.parametrize("after", [1, 3, 4, 6, 8, 10], ids=lambda n: f"after {n} epochs")
def test_going_on_gives_the_same_bits(digits: Dataset, tmp_path: Path, after: int, stages: str) -> None:
    """Two networks of three epochs come before one of four: killed in each stage and between them."""
    settings = SETTINGS | OTHER_STAGES[stages]
    config = TrainConfig(store=tmp_path, model="m", **settings)  # type: ignore[arg-type]
    whole = run_stages(new_mlp(digits, config), digits, config, HERE)
    seen = 0

    def on_epoch(stage: str, epoch: Epoch, classifier: object) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise Killed

    checkpoint = Checkpoint(config, identify(digits, HERE))
    with pytest.raises(Killed):
        run_stages(new_mlp(digits, config), digits, config, HERE, on_epoch, checkpoint)
    again = TrainConfig(store=tmp_path, model="m", resume=True, **settings)  # type: ignore[arg-type]
    repeated: list[tuple[str, int]] = []
    resumed = run_stages(
        new_mlp(digits, again),
        digits,
        again,
        HERE,
        lambda stage, epoch, _: repeated.append((stage, epoch.number)),
        checkpoint=Checkpoint(again, identify(digits, HERE)),
    )
    assert len(repeated) == 10 - after
    for ours, theirs in zip(resumed.classifier.parameters(), whole.classifier.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]


def test_other_settings_and_damaged_checkpoints_are_refused(digits: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(store=tmp_path, model="m", epochs=1)
    checkpoint = Checkpoint(config, identify(digits, HERE))
    run_stages(new_mlp(digits, config), digits, config, HERE, checkpoint=checkpoint)
    other = Checkpoint(TrainConfig(store=tmp_path, model="m", epochs=1, learning_rate=0.5), identify(digits, HERE))
    with pytest.raises(ConfigError, match=r"had different settings: learning-rate 0\.001\. Give the same"):
        other.load()
    assert checkpoint.load() is not None
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"is not a readable checkpoint .*start without --resume"):
        checkpoint.load()
    assert Checkpoint(TrainConfig(store=tmp_path, model="none"), {}).load() is None


FLAGS = [
    "--recipe",
    "accurate",
    "--teacher-hidden",
    "64",
    "--hidden",
    "32",
    "--validation",
    "0.2",
    "--compute",
    "float32",
]
LENGTH = ["--compute", "float32", "--epochs", "25", "--teacher-epochs", "20", "--batch-size", "8"]


def _start(store: Path, folder: Path, *more: str) -> "subprocess.Popen[str]":
    command = [str(BIN / "mlpserve-train"), "--store", str(store), "--data", str(folder), "--model", "m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # What a shell starts in the background ignores SIGINT, and so would the run that these tests interrupt.
    options = pipes | {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([*command, *FLAGS, *LENGTH, *more], text=True, env=environment, **options)  # type: ignore[call-overload,no-any-return]


def _lines_until(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(words):
            return
    raise AssertionError(f"it ended without {words!r}")


def _digests(version: Path) -> list[str]:
    return [hashlib.sha256((version / name).read_bytes()).hexdigest() for name in ("model.onnx", "model.int8.onnx")]


def test_kill_9_and_resume_publish_the_same_files(folder: Path, tmp_path: Path) -> None:
    with _start(tmp_path / "whole", folder) as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Teacher 1/1 Epoch 20 " in output
    for words, more in (("Teacher 1/1 Epoch 9 ", ()), ("Epoch 11 ", ("--resume",))):
        with _start(tmp_path / "killed", folder, *more) as process:
            _lines_until(process, words)
            process.kill()
        assert not list((tmp_path / "killed/m").glob("[0-9]*"))
    with _start(tmp_path / "killed", folder, "--resume") as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert not [line for line in output.splitlines() if line.startswith("Epoch 5 ")]
    assert _digests(tmp_path / "killed/m/1") == _digests(tmp_path / "whole/m/1")
    assert not (tmp_path / "killed/m/.training").exists()


@pytest.mark.parametrize("wish", ["stop", "publish"])
def test_ctrl_c(folder: Path, tmp_path: Path, wish: str) -> None:
    with _start(tmp_path, folder, "--on-interrupt", wish, "--epochs", "4000", "--teachers", "0") as process:
        _lines_until(process, "Epoch 3 ")
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    if wish == "stop":
        assert process.returncode == 130
        assert "nothing was published. Run the same command with --resume to continue" in errors
        assert not list((tmp_path / "m").glob("[0-9]*"))
        assert (tmp_path / "m/.training/checkpoint.pt").exists()
    else:
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == str(tmp_path / "m/1")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_epoch(digits: Dataset, tmp_path: Path) -> None:
    """Python raises it inside the finalizer, where every exception is ignored."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    config = TrainConfig(store=tmp_path, model="m", epochs=4)
    seen: list[int] = []

    def on_epoch(stage: str, epoch: Epoch, classifier: object) -> None:
        seen.append(epoch.number)
        if epoch.number == 2:
            Finalized()

    with pytest.raises(KeyboardInterrupt):
        run_stages(new_mlp(digits, config), digits, config, HERE, on_epoch)
    assert seen == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_without_an_interrupted_run_just_starts(folder: Path, tmp_path: Path) -> None:
    flags = ["--store", tmp_path, "--data", folder, "--model", "m", "--epochs", 2, "--validation", 0.2]
    result = run("mlpserve-train", *flags, "--resume")
    assert result.returncode == 0, result.stderr
    assert "Epoch 1" in result.stdout
