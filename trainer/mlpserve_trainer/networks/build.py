"""Untrained networks for a data set and a configuration, initialised from the configured seed."""

import torch
from torch import nn

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import Dataset
from mlpserve_trainer.networks.convolutional import ConvNet
from mlpserve_trainer.networks.convolutional_start import ConvStart, map_sizes
from mlpserve_trainer.networks.mlp import MLP


def new_mlp(dataset: Dataset, config: TrainConfig) -> MLP:
    """The network that is published."""
    torch.manual_seed(config.seed)
    classes = len(dataset.labels)
    hidden = (*map_sizes(dataset.rows, dataset.cols, config.start_channels), *config.hidden)
    if classes == 2 and not hidden and config.activation == "sigmoid":
        classes = 1  # the single neuron
    return MLP(dataset.rows * dataset.cols, hidden, classes, config.activation)


def new_teacher(dataset: Dataset, config: TrainConfig) -> nn.Module:
    """A teacher for knowledge distillation: a larger MLP or a convolutional network."""
    if config.teacher_kind == "mlp":
        return new_mlp(dataset, config)
    torch.manual_seed(config.seed)
    return ConvNet(dataset.rows, dataset.cols, len(dataset.labels))


def new_start(dataset: Dataset, config: TrainConfig) -> ConvStart:
    """The convolutional start: the network that initialises the published one."""
    torch.manual_seed(config.seed)
    return ConvStart(
        dataset.rows, dataset.cols, config.start_channels, config.hidden, len(dataset.labels), config.activation
    )
