"""The checkpoint from which `--resume` continues: one file, atomically replaced after every epoch.

    STORE/MODEL/.training/checkpoint.pt

A run that is killed leaves its last complete checkpoint; a run that publishes removes it.
"""

import contextlib
import errno
import io
import os
import pickle
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError, PublishError
from mlpserve_trainer.fitting.fit import Epoch, Saved

FOLDER, FILE = ".training", "checkpoint.pt"

# Settings that may change on --resume, because they do not affect the weights.
FREE = {
    "store", "resume", "on_interrupt", "tensorboard", "sign_key", "min_accuracy", "if_missing", "data_cache", "device",
    "calibrate", "recipe", "quiet",
}  # fmt: skip


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        finished: weights of the networks that were trained before the published one, in order.
        seconds: training time of those.
        stage: the network in training; None before the end of its first epoch.
    """

    finished: list[dict[str, torch.Tensor]]
    seconds: float = 0.0
    stage: Saved | None = None


class Checkpoint:
    """The checkpoint of one model's run.

    Args:
        config: of the run, with the model's name filled in.
        data: identifies the training images: name, counts and a digest.
    """

    def __init__(self, config: TrainConfig, data: dict[str, object]) -> None:
        self.path = config.store / config.model / FOLDER / FILE
        settings = {name: str(value) for name, value in asdict(config).items() if name not in FREE}
        self._settings = settings | {f"data {name}": str(value) for name, value in data.items()}

    def load(self) -> Progress | None:
        """Load the progress; None if there is no checkpoint.

        Raises:
            ConfigError: the checkpoint has different settings, or cannot be read.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            settings, stage = content["settings"], content["stage"]
            finished, seconds = content["finished"], content["seconds"]
            saved = None if stage is None else Saved(**stage | {"history": tuple(Epoch(*e) for e in stage["history"])})
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ConfigError(
                f"{self.path} is not a readable checkpoint ({type(error).__name__}); start without --resume"
            ) from error
        differing = sorted(name for name, value in self._settings.items() if settings.get(name) != value)
        if differing:
            was = ", ".join(f"{name.replace('_', '-')} {settings.get(name, '?')}" for name in differing)
            raise ConfigError(
                f"--resume: the interrupted run in {self.path.parent} had different settings: {was}. "
                "Give the same settings, or start over without --resume"
            )
        return Progress(finished, seconds, saved)

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint atomically.

        Raises:
            PublishError: it cannot be written.
        """
        stage: dict[str, Any] | None = None
        if progress.stage is not None:
            stage = {name: getattr(progress.stage, name) for name in Saved.__dataclass_fields__}
            stage["history"] = [tuple(asdict(epoch).values()) for epoch in progress.stage.history]
        # Serialise into memory first: PyTorch turns an interruption while it writes a file into another error.
        content = io.BytesIO()
        torch.save(
            {
                "settings": self._settings,
                "finished": progress.finished,
                "seconds": progress.seconds,
                "stage": stage,
            },
            content,
        )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A random name, because a predictable one could be somebody else's symbolic link.
            descriptor, unfinished = tempfile.mkstemp(suffix=".writing", dir=self.path.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            Path(unfinished).rename(self.path)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else error.strerror
            raise PublishError(f"cannot write the checkpoint {self.path}: {reason}") from error

    def remove(self) -> None:
        """Remove the checkpoint of a finished run."""
        self.path.unlink(missing_ok=True)
        for unfinished in self.path.parent.glob("*.writing"):
            unfinished.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it does not exist, or another run uses it
            self.path.parent.rmdir()
