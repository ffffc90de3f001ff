"""Every setting of a training run. `cli.py` turns each field into a flag, so each setting is defined once."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mlpserve.numbers import MOST
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.recipes import RECIPES

ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu")
SCHEDULES = ("one-cycle", "constant")
DEVICES = ("auto", "cpu", "cuda")
TEACHERS = ("mlp", "convolutional")
COMPUTE = ("float32", "bfloat16", "auto")
ON_INTERRUPT = ("stop", "publish")
# Beyond these nothing is learnt, or no machine has the memory.
MOST_OF = {
    **{"seed": 2**63 - 1, "learning_rate": 1_000, "temperature": 1_000, "image_size": 10_000, "teachers": 1_000},
    **dict.fromkeys(("epochs", "start_epochs", "teacher_epochs"), 1_000_000),
    **dict.fromkeys(("hidden", "teacher_hidden", "start_channels"), 1_000_000),
}


# The groups of --help, in its order.
RECIPE, DATA, NETWORK, OPTIMISATION = "Recipe and store", "Data", "Network", "Optimisation"
AUGMENTATION, DISTILLATION = "Data augmentation", "Knowledge distillation"
RUN, PUBLISHING = "Running and resuming", "Publishing"
GROUPS = (RECIPE, DATA, NETWORK, OPTIMISATION, AUGMENTATION, DISTILLATION, RUN, PUBLISHING)


def _flag(group: str, default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"group": group, "help": help, **more})


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
        RECIPE,
        "fast",
        "preset; any flag given beside it overrides its value. textbook: the tutorial's settings; fast; accurate: the "
        "same network, distilled from a larger one (minutes); best: a larger network (most of an hour)",
        choices=tuple(RECIPES),
    )
    store: Path = _flag(RECIPE, Path("store"), "model store to publish into", metavar="DIR")
    model: str = _flag(RECIPE, "", "name to publish under (default: the data set's name)", metavar="NAME")
    data: str = _flag(
        DATA,
        "mnist",
        "mnist (included), fashion-mnist, kmnist, emnist-letters or qmnist (downloaded by torchvision); a folder with "
        "one subfolder of images per class, optionally under train/ and test/; an .npz file with images and labels; a "
        ".npy file of images with labels beside it; a Parquet file or a folder of them",
        metavar="NAME|PATH",
    )
    data_cache: Path = _flag(DATA, Path("~/.cache/mlpserve"), "cache for downloaded data sets", metavar="DIR")
    image_size: tuple[int, int] | None = _flag(
        DATA,
        None,
        "resize pictures to this size (default: all must have one size already)",
        metavar="ROWSxCOLS",
        parse=_image_size,
    )
    hidden: tuple[int, ...] = _flag(
        NETWORK,
        (256,),
        "units of each hidden layer, separated by commas, or none (default: 256)",
        metavar="SIZES",
        parse=_layer_sizes,
    )
    start_channels: tuple[int, ...] = _flag(
        NETWORK,
        (),
        "initialise from a small convolutional network with these channels: it is trained first, then written out as "
        "dense layers in front of --hidden (default: none)",
        metavar="CHANNELS",
        parse=_layer_sizes,
    )
    start_epochs: int = _flag(NETWORK, 40, "training epochs of that convolutional network", metavar="N")
    activation: str = _flag(NETWORK, "relu", "activation function of the hidden layers", choices=ACTIVATIONS)
    epochs: int = _flag(OPTIMISATION, 10, "training epochs; validation picks the one to publish", metavar="N")
    batch_size: int = _flag(OPTIMISATION, 64, "images per optimiser step", metavar="N")
    learning_rate: float = _flag(
        OPTIMISATION, 1e-3, "mean learning rate of Adam; convolutional networks use their own", metavar="RATE"
    )
    schedule: str = _flag(
        OPTIMISATION,
        "one-cycle",
        "learning rate schedule. one-cycle: warm up to twice the mean rate, then decay to zero",
        choices=SCHEDULES,
    )
    average: float = _flag(
        OPTIMISATION,
        0.998,
        "decay of the exponential moving average of the weights, which is what is published; 0 turns it off",
        metavar="DECAY",
    )
    warp: float = _flag(
        AUGMENTATION,
        0.0,
        "strength of random affine and elastic distortions of the training images; 1 suits digits, 0 turns them off",
        metavar="STRENGTH",
    )
    label_smoothing: float = _flag(
        OPTIMISATION, 0.0, "share of each target that label smoothing spreads over all classes", metavar="SHARE"
    )
    teachers: int = _flag(
        DISTILLATION, 0, "teacher networks to train first, from which the published one is distilled", metavar="N"
    )
    teacher_kind: str = _flag(
        DISTILLATION,
        "mlp",
        "kind of teacher; a convolutional one ignores --teacher-hidden. Teachers are not published",
        choices=TEACHERS,
    )
    teacher_hidden: tuple[int, ...] = _flag(
        DISTILLATION,
        (1024, 1024),
        "units of an MLP teacher's hidden layers (default: 1024,1024)",
        metavar="SIZES",
        parse=_layer_sizes,
    )
    teacher_epochs: int = _flag(DISTILLATION, 60, "training epochs of each teacher", metavar="N")
    teacher_view: float = _flag(
        DISTILLATION,
        0.0,
        "strength of the extra distortions under which teachers see each image, so that the student learns their mean",
        metavar="STRENGTH",
    )
    temperature: float = _flag(DISTILLATION, 2.0, "distillation temperature: divides the teachers' logits", metavar="T")
    compute: str = _flag(
        RUN,
        "float32",
        "precision of matrix products in training; auto uses bfloat16 if the processor has it",
        choices=COMPUTE,
    )
    calibrate: str = _flag(
        PUBLISHING,
        "yes",
        "calibrate probabilities: scale the logits by the temperature that fits the validation images best",
        choices=("yes", "no"),
    )
    validation: float = _flag(DATA, 1 / 12, "share of the training images held out for validation", metavar="SHARE")
    seed: int = _flag(RUN, 0, "random seed; on a CPU the same seed gives a bit-identical model", metavar="N")
    device: str = _flag(RUN, "auto", "where to train; auto uses a GPU if there is one", choices=DEVICES)
    resume: bool = _flag(
        RUN,
        False,
        "continue an interrupted run with the same settings; on a CPU the result is bit-identical",
        action="store_true",
    )
    on_interrupt: str = _flag(
        RUN,
        "stop",
        "what Ctrl-C does: stop, so that --resume can continue; or publish the best epoch so far",
        choices=ON_INTERRUPT,
    )
    tensorboard: Path | None = _flag(
        RUN, None, "write TensorBoard logs into a new subfolder of this folder", metavar="DIR", parse=Path
    )
    quiet: bool = _flag(RUN, False, "no bars and no lines about progress", action="store_true")
    sign_key: Path | None = _flag(
        PUBLISHING, None, "sign the version with this PEM private key (elliptic curve)", metavar="FILE", parse=Path
    )
    min_accuracy: float = _flag(
        PUBLISHING, 0.0, "refuse to publish below this test accuracy, 0 to 1", metavar="ACCURACY"
    )
    if_missing: bool = _flag(
        PUBLISHING, False, "do nothing if the store already has a version of this model", action="store_true"
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            numbers = value if isinstance(value, tuple) else (value,)
            most = MOST_OF.get(item.name, MOST)
            if not all(-most <= number <= most for number in numbers if isinstance(number, int | float)):
                flag = f"--{item.name.replace('_', '-')}"
                raise ConfigError(f"{flag} is {_shown(value)}; expected a number, at most {most:,}")
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


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def configure(recipe: str, **given: Any) -> TrainConfig:
    """The settings of a recipe, overridden by those that are given.

    Raises:
        ConfigError: a value cannot work.
    """
    return TrainConfig(**RECIPES[recipe] | given | {"recipe": recipe})


def is_model_name(name: str) -> bool:
    """Whether a name can be a model's: it is a folder in the store, and part of every request."""
    return name[:1].isalnum() and name.isascii() and all(c.isalnum() or c in "-_." for c in name) and len(name) <= 64
