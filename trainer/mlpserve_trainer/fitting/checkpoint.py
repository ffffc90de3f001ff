"""What an interrupted run goes on from: one file, replaced by a rename after every epoch.

    STORE/MODEL/.training/checkpoint.pt

A run that is killed at any moment leaves the last whole checkpoint; a run that publishes removes it.
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

# What may differ between a run and the one that continues it: nothing that changes the weights.
FREE = {
    "store", "resume", "on_interrupt", "tensorboard", "sign_key", "min_accuracy", "if_missing", "data_cache", "device",
    "calibrate", "recipe",
}  # fmt: skip


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        finished: weights of the networks before the published one that are fitted, in order.
        seconds: that they took.
        stage: the network that was being fitted; None before its first epoch has ended.
    """

    finished: list[dict[str, torch.Tensor]]
    seconds: float = 0.0
    stage: Saved | None = None


class Checkpoint:
    """The checkpoint of one model's run.

    Args:
        config: of the run, with the model's name filled in.
        data: what identifies the training images: name, counts and a digest.
    """

    def __init__(self, config: TrainConfig, data: dict[str, object]) -> None:
        self.path = config.store / config.model / FOLDER / FILE
        settings = {name: str(value) for name, value in asdict(config).items() if name not in FREE}
        self._settings = settings | {f"data {name}": str(value) for name, value in data.items()}

    def load(self) -> Progress | None:
        """Where to go on; None without a checkpoint.

        Raises:
            ConfigError: it is of a run with other settings, or cannot be read.
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
                f"{self.path} cannot be read as a checkpoint ({type(error).__name__}); start without --resume"
            ) from error
        differing = sorted(name for name, value in self._settings.items() if settings.get(name) != value)
        if differing:
            was = ", ".join(f"{name.replace('_', '-')} {settings.get(name, '?')}" for name in differing)
            raise ConfigError(
                f"--resume: the interrupted run in {self.path.parent} had other settings: {was}. "
                "Give the same ones, or start anew without --resume"
            )
        return Progress(finished, seconds, saved)

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint, with one rename.

        Raises:
            PublishError: it cannot be written.
        """
        stage: dict[str, Any] | None = None
        if progress.stage is not None:
            stage = {name: getattr(progress.stage, name) for name in Saved.__dataclass_fields__}
            stage["history"] = [tuple(asdict(epoch).values()) for epoch in progress.stage.history]
        # Into memory first: an interruption inside the writing of a file comes out of PyTorch as another error.
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
            # A new name each time: under one that can be foreseen, somebody else's link may lie.
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
        """Forget the run, which is over."""
        self.path.unlink(missing_ok=True)
        for unfinished in self.path.parent.glob("*.writing"):
            unfinished.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # never made, or another run's
            self.path.parent.rmdir()
