"""TensorBoard logs of a run (`--tensorboard`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.fitting.distributed import Group
from mlpserve_trainer.fitting.fit import Epoch

Log = Callable[[str, Epoch], None]


@contextmanager
def opened(config: TrainConfig, group: Group) -> Iterator[Log]:
    """Provide a function that logs an epoch of a stage; without `--tensorboard` it does nothing.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    if config.tensorboard is None or group.rank > 0:
        yield lambda stage, epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ConfigError("--tensorboard needs: pip install 'mlpserve[tensorboard]'") from error
    name = f"{config.model}-{datetime.now():%Y%m%d-%H%M%S}"
    with SummaryWriter(config.tensorboard / name) as writer:

        def log(stage: str, epoch: Epoch) -> None:
            prefix = f"{stage.lower().replace(' ', '-').replace('/', '-of-')}/" if stage else ""
            values = {
                "loss/training": epoch.loss,
                "loss/validation": epoch.validation_loss,
                "accuracy/validation": epoch.validation_accuracy,
                "seconds": epoch.seconds,
            }
            for label, value in values.items():
                writer.add_scalar(prefix + label, value, epoch.number)

        yield log
