"""Every error that ends a training run; the messages are for the person who started it.

TrainerError
├── ConfigError    a flag has a value that cannot work
├── DataError      the data cannot be read or used
├── FitError       the weights have become no numbers
├── GateError      the model is not good enough, or its ONNX file differs from PyTorch
└── PublishError   the version cannot be written to the store
"""


class TrainerError(Exception):
    """Base of every error that ends a training run; the message says what to do.

    Attributes:
        page: where the documentation explains it.
    """

    page = "docs/training.md"


class ConfigError(TrainerError):
    """A flag has a value that cannot work."""


class DataError(TrainerError):
    """The data cannot be read or used."""

    page = "docs/training.md#data"


class FitError(TrainerError):
    """The training went astray: the loss, and with it every weight, is no number any more."""

    page = "docs/training.md#optimisation"


class GateError(TrainerError):
    """The model misses the required accuracy, or its ONNX file gives other answers than PyTorch."""

    page = "docs/training.md#validation-before-publishing"


class PublishError(TrainerError):
    """The version cannot be written to the store; the store is unchanged."""

    page = "docs/training.md#the-artifact"
