import numpy as np
import pytest
import torch

from mlpserve_trainer.data import Split
from mlpserve_trainer.evaluation.calibration import calibration_error, reliability
from mlpserve_trainer.export.temperature import LOWEST, fitted_temperature, scaled
from mlpserve_trainer.networks.mlp import MLP, Classifier


def _overconfident(factor: float) -> tuple[Classifier, Split]:
    """A network whose labels are drawn from its own probabilities, made too sure by a factor."""
    torch.manual_seed(0)
    classifier = Classifier(MLP(36, (20,), 4), 0.4, 0.3).requires_grad_(False)
    images = torch.randint(0, 256, (20_000, 36), dtype=torch.uint8)
    targets = torch.multinomial(classifier(images), 1).flatten()
    return scaled(classifier, 1 / factor), Split(images, targets)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_factor_is_found_and_folded_in(factor: float) -> None:
    classifier, split = _overconfident(factor)
    before = calibration_error(classifier(split.images).numpy(), split.targets.numpy())
    found = fitted_temperature(classifier, split)
    assert found == pytest.approx(factor, rel=0.05)
    classes = classifier(split.images).argmax(dim=1)
    classifier = scaled(classifier, found)
    after = calibration_error(classifier(split.images).numpy(), split.targets.numpy())
    assert after < 0.015
    assert factor == 1.0 or after < before / 3
    assert torch.equal(classifier(split.images).argmax(dim=1), classes)


def test_a_split_without_a_mistake_asks_for_no_certainty() -> None:
    classifier, split = _overconfident(1.0)
    right = Split(split.images[:30], classifier(split.images[:30]).argmax(dim=1))
    assert 2 * LOWEST < fitted_temperature(classifier, right) < 1.5


def test_the_error_by_hand() -> None:
    """Two bins: nine answers at 0.95 of which eight are right, one at 0.55 that is right."""
    probabilities = np.array([[0.95, 0.05]] * 9 + [[0.45, 0.55]], np.float32)
    targets = np.array([0] * 8 + [1, 1])
    assert calibration_error(probabilities, targets) == pytest.approx(0.9 * abs(0.95 - 8 / 9) + 0.1 * 0.45, abs=1e-6)
    counts, confidence, accuracy = reliability(probabilities, targets)
    assert (counts[14], counts[8]) == (9, 1)
    assert (round(confidence[14], 3), round(accuracy[8], 3)) == (0.95, 1.0)
