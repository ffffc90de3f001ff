"""Every setting of a training run. `cli.py` makes one flag of each field, so a setting is written once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.recipes import RECIPES

ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu")
SCHEDULES = ("one-cycle", "constant")
DEVICES = ("auto", "cpu", "cuda")
TEACHERS = ("mlp", "convolutional")
COMPUTE = ("float32", "bfloat16", "auto")
ON_INTERRUPT = ("stop", "publish")


def _flag(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


def _layer_sizes(text: str) -> tuple[int, ...]:
    """Parse "256", "512,256" or "none"."""
    return () if text == "none" else tuple(int(part) for part in text.split(","))


def _image_size(text: str) -> tuple[int, int]:
    """Parse "28x28" into (rows, cols)."""
    rows, cols = text.lower().split("x")
    return int(rows), int(cols)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run.

    Raises:
        ConfigError: a value cannot work.
    """

    recipe: str = _flag(
        "fast",
        "settings that belong together; a flag given beside it overrides its value: textbook (the tutorial's), fast, "
        "accurate (the same network, taught by a larger one; minutes), best (a larger network; most of an hour)",
        choices=tuple(RECIPES),
    )
    store: Path = _flag(Path("store"), "folder that holds the published models", metavar="DIR")
    model: str = _flag("", "name to publish under; empty: that of the data set", metavar="NAME")
    data: str = _flag(
        "mnist",
        "mnist (comes with the package), fashion-mnist, kmnist, emnist-letters, qmnist (downloaded by torchvision), "
        "or a folder with one folder of images for each class, optionally under train/ and test/; an .npz file with "
        "images and labels; a .npy file of images with labels beside it; a Parquet file or folder of them",
        metavar="NAME|PATH",
    )
    data_cache: Path = _flag(Path("~/.cache/mlpserve"), "where downloaded data sets are kept", metavar="DIR")
    image_size: tuple[int, int] | None = _flag(
        None,
        "bring pictures to this size; without it all must have one size already",
        metavar="ROWSxCOLS",
        parse=_image_size,
    )
    hidden: tuple[int, ...] = _flag(
        (256,),
        "units of each hidden layer, separated by commas, or none (default: 256)",
        metavar="SIZES",
        parse=_layer_sizes,
    )
    start_channels: tuple[int, ...] = _flag(
        (),
        "begin as a small convolutional network with these channels, which is fitted first and then written out as "
        "layers before those of --hidden (default: none)",
        metavar="CHANNELS",
        parse=_layer_sizes,
    )
    start_epochs: int = _flag(40, "passes over the training images for that network")
    activation: str = _flag("relu", "activation of the hidden layers", choices=ACTIVATIONS)
    epochs: int = _flag(10, "passes over the training images")
    batch_size: int = _flag(64, "images in one optimiser step")
    learning_rate: float = _flag(1e-3, "Adam's mean step size; convolutional networks have one of their own")
    schedule: str = _flag(
        "one-cycle", "one-cycle: climb to twice the mean step size, fall to zero; constant: stay", choices=SCHEDULES
    )
    average: float = _flag(
        0.998, "decay of the moving average of the weights that is evaluated and published; 0 switches it off"
    )
    warp: float = _flag(
        0.0, "strength of the random affine and elastic warps that images are shown with; 1 suits digits, 0: none"
    )
    label_smoothing: float = _flag(0.0, "share of each target that is spread over all classes")
    teachers: int = _flag(0, "larger networks to fit first, whose answers the published one learns", metavar="N")
    teacher_kind: str = _flag(
        "mlp",
        "what a teacher is; a convolutional one is never published, and has no --teacher-hidden",
        choices=TEACHERS,
    )
    teacher_hidden: tuple[int, ...] = _flag(
        (1024, 1024),
        "units of an MLP teacher's hidden layers (default: 1024,1024)",
        metavar="SIZES",
        parse=_layer_sizes,
    )
    teacher_epochs: int = _flag(60, "passes over the training images for each teacher")
    teacher_view: float = _flag(
        0.0,
        "strength of the further warps under which a teacher sees an image, so that its mean over them is learnt",
    )
    temperature: float = _flag(2.0, "what the teachers' logits are divided by before they are learnt")
    compute: str = _flag(
        "float32",
        "precision of the matrix products while training; auto: bfloat16 where the processor has it",
        choices=COMPUTE,
    )
    calibrate: str = _flag(
        "yes",
        "divide the logits by the temperature at which the validation images are likeliest",
        choices=("yes", "no"),
    )
    validation: float = _flag(1 / 12, "share of the training images kept for choosing the model")
    seed: int = _flag(0, "seed of initialisation, split and order; on a CPU the same seed gives the same model")
    device: str = _flag("auto", "where to train; auto takes a GPU where there is one", choices=DEVICES)
    resume: bool = _flag(False, "go on where an interrupted run with the same settings stopped", action="store_true")
    on_interrupt: str = _flag(
        "stop",
        "what Ctrl-C does: stop, for --resume to go on; or publish what the epochs so far came to",
        choices=ON_INTERRUPT,
    )
    tensorboard: Path | None = _flag(
        None, "write TensorBoard's logs here, in a folder for each run", metavar="DIR", parse=Path
    )
    sign_key: Path | None = _flag(
        None, "PEM private key to sign the version with (an elliptic curve's)", metavar="FILE", parse=Path
    )
    min_accuracy: float = _flag(0.0, "refuse to publish below this test accuracy, 0 to 1")
    if_missing: bool = _flag(False, "do nothing if the store has a version of this model", action="store_true")

    def __post_init__(self) -> None:
        checks = {
            "--epochs must be at least 1": self.epochs >= 1,
            "--batch-size must be at least 1": self.batch_size >= 1,
            "--learning-rate must be above 0": self.learning_rate > 0,
            "--warp must be at least 0 and at most 3": 0 <= self.warp <= 3,
            "--label-smoothing must be at least 0 and below 1": 0 <= self.label_smoothing < 1,
            "--teachers must be at least 0": self.teachers >= 0,
            "--teacher-hidden needs sizes of at least 1": all(size >= 1 for size in self.teacher_hidden),
            "--start-channels needs numbers of at least 1": all(count >= 1 for count in self.start_channels),
            "--start-epochs must be at least 1": self.start_epochs >= 1,
            "--teacher-epochs must be at least 1": self.teacher_epochs >= 1,
            "--teacher-view must be at least 0 and at most --warp": 0 <= self.teacher_view <= max(self.warp, 0),
            "--temperature must be above 0": self.temperature > 0,
            "--average must be at least 0 and below 1": 0 <= self.average < 1,
            "--validation must be above 0 and below 1": 0 < self.validation < 1,
            "--min-accuracy must be between 0 and 1, for example 0.98": 0 <= self.min_accuracy <= 1,
            "--seed must be between 0 and 2^63 - 1": 0 <= self.seed < 2**63,
            "--hidden needs sizes of at least 1": all(size >= 1 for size in self.hidden),
            "--image-size needs at least 1x1": self.image_size is None or min(self.image_size) >= 1,
            "--model may hold letters, digits, '-', '_' and '.', and must begin with a letter or digit": (
                self.model == "" or is_model_name(self.model)
            ),
            f"--activation must be one of {', '.join(ACTIVATIONS)}": self.activation in ACTIVATIONS,
            f"--recipe must be one of {', '.join(RECIPES)}": self.recipe in RECIPES,
            f"--schedule must be one of {', '.join(SCHEDULES)}": self.schedule in SCHEDULES,
            f"--teacher-kind must be one of {', '.join(TEACHERS)}": self.teacher_kind in TEACHERS,
            f"--compute must be one of {', '.join(COMPUTE)}": self.compute in COMPUTE,
            "--calibrate must be yes or no": self.calibrate in ("yes", "no"),
            f"--on-interrupt must be one of {', '.join(ON_INTERRUPT)}": self.on_interrupt in ON_INTERRUPT,
            f"--device must be one of {', '.join(DEVICES)}": self.device in DEVICES,
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(message)


def configure(recipe: str, **given: Any) -> TrainConfig:
    """A recipe's settings with those that are given instead.

    Raises:
        ConfigError: a value cannot work.
    """
    return TrainConfig(**RECIPES[recipe] | given | {"recipe": recipe})


def is_model_name(name: str) -> bool:
    """Whether a name can be a folder in the store: it is also sent in every request."""
    return name[:1].isalnum() and name.isascii() and all(c.isalnum() or c in "-_." for c in name) and len(name) <= 64
