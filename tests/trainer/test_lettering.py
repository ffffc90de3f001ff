"""Class names in figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.job import train
from mlpserve_trainer.report import figures, lettering

CHINESE = ["猫", "狗", "鸟"]


@pytest.mark.parametrize("labels", [["0", "1"], ["café", "naïve"], ["straße", "Ωmega", "яблоко"], ["$x$", "a_b"]])
def test_letters_that_the_usual_font_has(labels: list[str]) -> None:
    assert lettering.drawable(labels) == labels
    figures.confusion(np.eye(len(labels), dtype=np.int64), labels)  # a warning would be an error


def test_letters_that_no_font_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_with", lambda letters: None)
    assert lettering.drawable(CHINESE) == ["0", "1", "2"]
    assert lettering.drawable(["a\nb", "c"]) == ["0", "1"]


def test_a_font_of_boxes_has_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib brings one that claims to have every letter, for what nothing else can show."""
    entries = lettering.font_manager.fontManager.ttflist
    boxes = [entry for entry in entries if "Last" in entry.name and "Resort" in entry.name]
    assert boxes
    monkeypatch.setattr(lettering.font_manager.fontManager, "ttflist", boxes)
    assert lettering._font_with(frozenset(map(ord, "猫狗鸟鱼"))) is None


def test_a_font_that_has_them_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[frozenset[int]] = []

    def found(letters: frozenset[int]) -> str:
        wanted.append(letters)
        return "DejaVu Serif"

    monkeypatch.setattr(lettering, "_font_with", found)
    monkeypatch.setattr(lettering.matplotlib, "rcParams", dict(lettering.matplotlib.rcParams))
    assert lettering.drawable(CHINESE) == CHINESE
    assert wanted == [frozenset(map(ord, "猫狗鸟"))]
    assert lettering.matplotlib.rcParams["font.family"] == ["DejaVu Sans", "DejaVu Serif"]


def test_a_report_of_classes_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_with", lambda letters: None)
    for number, name in enumerate(CHINESE):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index, image in enumerate(mnist_images()[mnist_labels() == number][:20]):
            Image.fromarray(image).save(tmp_path / "data" / name / f"{index}.png")
    folder = train(TrainConfig(store=tmp_path / "store", data=str(tmp_path / "data"), model="m", epochs=1))
    assert folder is not None
    report = (folder / "report.html").read_text()
    assert "the figures show class ids" in report
    for label in CHINESE:
        assert f"<td>{label}</td>" in report
