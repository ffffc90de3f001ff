import math

import pytest
import torch

from mlpserve_trainer.networks.mlp import MLP, Classifier, normalise


def test_default_is_the_textbook_network() -> None:
    mlp = MLP()
    assert mlp.sizes == (784, 256, 10)
    assert mlp.parameter_count() == 203_530
    assert "203,530" in mlp.parameter_table()
    assert mlp(torch.zeros(5, 784)).shape == (5, 10)


def test_xavier_initialisation() -> None:
    torch.manual_seed(0)
    first = MLP().linears[0]
    bound = math.sqrt(6 / (784 + 256))
    assert first.weight.abs().max() <= bound
    assert first.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert torch.all(first.bias == 0)


def test_no_hidden_layer_and_one_output_is_a_single_neuron() -> None:
    neuron = MLP(inputs=3, hidden=(), classes=1, activation="sigmoid")
    assert neuron.parameter_count() == 4
    x = torch.randn(7, 3)
    z = x @ neuron.linears[0].weight.T + neuron.linears[0].bias
    probabilities = neuron(x).softmax(dim=1)
    assert torch.allclose(probabilities[:, 1:], torch.sigmoid(z), atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu"])
def test_deep_networks(activation: str) -> None:
    mlp = MLP(inputs=6, hidden=(5, 4), classes=3, activation=activation)
    assert mlp.parameter_count() == 6 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3
    assert mlp(torch.randn(2, 6)).shape == (2, 3)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        MLP(hidden=(0,))
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        MLP(activation="swish")


def test_normalisation_is_the_textbook_formula() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 256)
    expected = (images.double() / 255 - 0.1307) / 0.3081
    assert torch.allclose(normalise(images, 0.1307, 0.3081).double(), expected, atol=1e-5)


def test_classifier_gives_probabilities() -> None:
    images = torch.randint(0, 256, (4, 784), dtype=torch.uint8)
    probabilities = Classifier(MLP(), 0.1307, 0.3081)(images)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(4))
