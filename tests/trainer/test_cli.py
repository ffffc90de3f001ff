"""`mlpserve-train` as a person runs it."""

import json
from pathlib import Path

import pytest
from support.mnist import write_class_folders
from support.processes import run

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError


def test_a_folder_of_images_is_trained_and_published(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=30, classes=4)
    result = run(
        "mlpserve-train",
        "--store",
        tmp_path / "s",
        "--data",
        folder,
        "--epochs",
        3,
        "--hidden",
        "32,16",
        "--validation",
        0.2,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("Epoch")] == [
        ["Epoch", str(n), "Loss"] for n in (1, 2, 3)
    ]
    published = Path(lines[-1])
    assert published == tmp_path / "s" / "digits" / "1"
    manifest = json.loads((published / "manifest.json").read_text())
    assert manifest["labels"] == ["0", "1", "2", "3"]
    assert manifest["network"]["layers"] == [784, 32, 16, 4]
    listed = {entry["path"] for entry in manifest["files"]}
    present = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert present - listed == {"manifest.json", "manifest.sha256"}
    report = (published / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 7
    assert "784-32-16-4" in (published / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--data", "nowhere"], 1, "neither a folder or file nor one of"),
        (["--epochs", "0"], 2, "--epochs must be at least 1"),
        (["--hidden", "a,b"], 2, "argument --hidden"),
        (["--activation", "swish"], 2, "invalid choice: 'swish'"),
        (["--model", "../evil"], 2, "--model may hold letters"),
        (["--store", "/proc/store"], 1, "cannot be written"),
        (["--device", "cuda"], 1, "--device cuda: PyTorch finds no usable NVIDIA GPU"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flags_end_in_a_sentence(flags: list[str], code: int, words: str, tmp_path: Path) -> None:
    result = run("mlpserve-train", "--store", tmp_path, *flags, env={"CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_accuracy_gate_publishes_nothing(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=30, classes=4)
    flags = ["--data", folder, "--epochs", 1, "--validation", 0.2, "--min-accuracy", 1.0, "--learning-rate", 1e-6]
    result = run("mlpserve-train", "--store", tmp_path / "s", *flags)
    assert result.returncode == 1
    assert "below --min-accuracy 100.00%" in result.stderr
    assert not [path for path in (tmp_path / "s" / "digits").iterdir() if path.name.isdecimal()]


def test_if_missing_trains_once(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=20, classes=2)
    flags = ["--store", tmp_path / "s", "--data", folder, "--epochs", 1, "--validation", 0.2, "--if-missing"]
    first, second = run("mlpserve-train", *flags), run("mlpserve-train", *flags)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "Epoch 1" in first.stdout
    assert "digits version 1 is in the store already; nothing to do" in second.stdout
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1] == str(tmp_path / "s/digits/1")


def test_config_checks_values() -> None:
    with pytest.raises(ConfigError, match="--validation must be above 0"):
        TrainConfig(validation=0)
    with pytest.raises(ConfigError, match="--image-size"):
        TrainConfig(image_size=(0, 3))


def test_tensorboard_logs_can_be_read(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = write_class_folders(tmp_path / "digits", per_class=20, classes=2)
    flags = ["--store", tmp_path / "s", "--data", folder, "--epochs", 3, "--validation", 0.2]
    flags += ["--calibrate", "no", "--batch-size", 8]
    teachers = ["--teachers", 1, "--teacher-epochs", 2, "--teacher-hidden", 16]
    result = run("mlpserve-train", *flags, *teachers, "--tensorboard", tmp_path / "logs")
    assert result.returncode == 0, result.stderr
    (log,) = (tmp_path / "logs").iterdir()
    assert log.name.startswith("digits-")
    events = EventAccumulator(str(log))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy/validation")] == [1, 2, 3]
    assert len(events.Scalars("teacher-1-of-1/loss/training")) == 2


def test_the_manifest_records_recipe_teachers_and_calibration(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=30, classes=4)
    flags = ["--store", tmp_path / "s", "--data", folder, "--recipe", "accurate", "--epochs", 30, "--validation", 0.2]
    flags += ["--batch-size", 8, "--teacher-hidden", "32,16", "--teacher-epochs", 20]
    result = run("mlpserve-train", *flags, "--hidden", 32)
    assert result.returncode == 0, result.stderr
    assert "Teacher 1/1 Epoch 20 " in result.stdout
    training = json.loads((tmp_path / "s/digits/1/manifest.json").read_text())["training"]
    assert (training["recipe"], training["teachers"], training["teacherLayers"]) == ("accurate", 1, [784, 32, 16, 4])
    assert training["temperature"] > 0
    assert training["teacherKind"] == "mlp"
    assert training["warp"] == 1
    card = (tmp_path / "s/digits/1/MODEL_CARD.md").read_text()
    assert "recipe accurate: 30 epochs" in card
    assert "on the answers of 1 larger\nnetwork (784-32-16-4)" in card
