"""What a report says of classes without test images, and of a model that is no better than a constant answer."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.evaluation.evaluate import Evaluated, majority, no_better
from mlpserve_trainer.job import train


def _folder(root: Path, counts: dict[str, int]) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(mnist_images()[mnist_labels() == number][:count]):
            Image.fromarray(image).save(root / name / f"{index}.png")
    return root


def test_majority() -> None:
    assert majority(np.array([[3, 1], [0, 12]])) == (1, 0.75)
    assert majority(np.zeros((2, 2), np.int64)) == (0, 0.0)


def test_a_model_that_learns_nothing_is_published_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _folder(tmp_path / "data", {"often": 60, "rare": 12})
    folder = train(
        TrainConfig(store=tmp_path / "store", data=str(data), model="m", epochs=1, learning_rate=1e-9, hidden=(2,))
    )
    assert folder is not None
    said = capsys.readouterr()
    assert "Always answering 'often', the most frequent class, would be right for 85.71%" in said.out
    report, card = (folder / "report.html").read_text(), (folder / "MODEL_CARD.md").read_text()
    for text in (report, card):
        assert "nan %" not in text
        assert "would be right for 85.71 %" in text


@pytest.mark.parametrize(("right", "warns"), [(74, True), (75, True), (76, False)])
def test_a_model_that_is_no_better_than_one_answer(right: int, warns: bool) -> None:
    confusion = np.array([[right, 75 - right], [25, 0]]) if right <= 75 else np.array([[75, 0], [24, 1]])
    probabilities = np.zeros((100, 2), np.float32)
    result = Evaluated(Precision.PRECISION_FP32, probabilities, right / 100, 0.0, 1.0, confusion)
    said = no_better([result], ["often", "rare"])
    assert bool(said) == warns
    if warns:
        assert (
            f"always answering 'often': that is right for 75.00% of the test images, and the model for {right}"
            in said[0]
        )


def test_numbers_without_images_have_no_recall(tmp_path: Path) -> None:
    keep = (mnist_labels() < 4) & (mnist_labels() != 2)
    np.savez(tmp_path / "x.npz", images=mnist_images()[keep][:150], labels=mnist_labels()[keep][:150])
    folder = train(TrainConfig(store=tmp_path / "store", data=str(tmp_path / "x.npz"), model="m", epochs=1))
    assert folder is not None
    report = (folder / "report.html").read_text()
    assert "no images" in report
    assert "nan %" not in report
