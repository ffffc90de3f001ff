"""The true class ids of a job's rows, read from a file beside its inputs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_client.scoring.inputs.meaning import Ids, Meaning


@dataclass(frozen=True)
class Truth:
    """True class ids of consecutive rows.

    Attributes:
        class_ids: int64 [N].
        first_row: number of the first one in the whole job.
    """

    class_ids: Ids
    first_row: int = 0

    def rows(self, first: int, count: int) -> Ids:
        """Those of `count` rows from a row of the whole job on."""
        start = first - self.first_row
        return np.asarray(self.class_ids[start : start + count])

    def part(self, first: int, count: int) -> "Truth":
        """The same rows as a value that can travel by itself."""
        return Truth(self.rows(first, count), first)


def read_truth(path: str, rows: int, meaning: Meaning) -> Truth:
    """The file with true labels.

    Args:
        path: IDX, .npy or .csv.
        rows: of the job.
        meaning: of labels, for the model.

    Raises:
        ScoringError: it cannot be read, has another number of labels, or one is no class of the model.
    """
    return Truth(meaning.ids(read_labels(Path(path), rows), path))
