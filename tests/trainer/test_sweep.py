import json
from pathlib import Path

import pytest
from support.mnist import write_class_folders
from support.processes import run

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.sweep import Choice, configured, parse_choice


def test_choices() -> None:
    assert parse_choice("hidden=128,256") == Choice("hidden", ("128", "256"))
    assert parse_choice("--hidden=256;512,256") == Choice("hidden", ("256", "512,256"))
    assert parse_choice("learning-rate=1e-4..1e-2") == Choice("learning_rate", (), 1e-4, 1e-2)
    assert parse_choice("epochs=2..8") == Choice("epochs", (), 2, 8, whole=True)
    assert configured(TrainConfig(), {"hidden": "512,256", "epochs": "3"}) == TrainConfig(hidden=(512, 256), epochs=3)


@pytest.mark.parametrize(
    "text",
    ["hidden", "colour=1,2", "store=a,b", "learning-rate=a..b", "learning-rate=2..1", "hidden=1..2", "epochs=0..3"],
)
def test_bad_choices(text: str) -> None:
    with pytest.raises(ConfigError, match="--vary"):
        parse_choice(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("digits"), per_class=30)


def test_a_sweep_finds_the_better_settings_and_goes_on(folder: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    flags = ["--data", folder, "--validation", 0.2, "--epochs", 3, "--store", tmp_path / "s"]
    search = ["--vary", "learning-rate=1e-6,2e-3", "--vary", "hidden=8..64", "--trials", 6, "--sweep-store", storage]
    result = run("mlpserve-train", "sweep", *search[:2], "--trials", 5, *search[6:], *flags)
    assert result.returncode == 0, result.stderr
    assert "5 of 5 trials finished" in result.stdout
    assert "--learning-rate 2e-3" in result.stdout.splitlines()[-1]
    assert not (tmp_path / "s").exists()
    more = run("mlpserve-train", "sweep", *search[:2], *search[4:], *flags, "--output", tmp_path / "trials.json")
    assert more.returncode == 0, more.stderr
    assert "11 of 11 trials finished" in more.stdout
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert [trial["accuracy"] for trial in trials] == sorted((trial["accuracy"] for trial in trials), reverse=True)


def test_bad_sweeps_end_in_a_sentence(folder: Path) -> None:
    for flags, words in (
        (["--vary", "hidden=a,b"], "'a' is not a valid value of --hidden"),
        (["--vary", "activation=relu,swish"], "--activation must be one of"),
        (["--vary", "epochs=1,2", "--trials", "0"], "--trials must be at least 1"),
        (["--vary", "epochs=1,2", "--sweep-store", "nosuchdb://x"], "--sweep-store nosuchdb://x"),
    ):
        result = run("mlpserve-train", "sweep", "--data", folder, "--validation", 0.2, *flags)
        assert result.returncode == 1, result.stdout
        assert words in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_sweep_on_a_ray_cluster(folder: Path, tmp_path: Path) -> None:
    """A real local cluster runs the trials."""
    flags = ["--data", folder, "--validation", 0.2, "--epochs", 3, "--output", tmp_path / "trials.json"]
    search = ["--vary", "learning-rate=1e-6,2e-3", "--vary", "batch-size=8..32", "--trials", 4, "--ray", "local"]
    result = run("mlpserve-train", "sweep", *search, *flags)
    assert result.returncode == 0, result.stderr
    assert "4 of 4 trials finished" in result.stdout
    trials = json.loads((tmp_path / "trials.json").read_text())
    assert {trial["settings"]["learning_rate"] for trial in trials} <= {"1e-6", "2e-3"}
