"""What a job came to, and what it was busy with."""

import threading
import time
from dataclasses import dataclass, field

from mlpserve_client.messages.predictions import ModelId
from mlpserve_client.scoring.output.evaluation import Tally


@dataclass
class Busy:
    """Seconds that each stage was busy; decoding and asking are summed over threads."""

    reading: float = 0.0
    decoding: float = 0.0
    asking: float = 0.0
    waiting: float = 0.0
    writing: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, stage: str, since: float) -> float:
        """Count a stage from a time until now, which is returned."""
        now = time.perf_counter()
        with self._lock:
            setattr(self, stage, getattr(self, stage) + now - since)
        return now


@dataclass(frozen=True)
class Summary:
    """What a job came to.

    Attributes:
        tally: of all rows, those of earlier runs included.
        labels: class labels by class id.
        model: what answered.
        compared: the second version; None for none.
        parts: of the whole job.
        parts_before: of them, finished by earlier runs.
        rows_now: rows scored by this run.
        seconds: wall-clock time of this run.
        busy: what this run was busy with; None on a cluster.
        in_flight: most requests that were in flight.
        refusals: times that the server was full or away.
        passed_over: paths in the inputs' folders that are no rows, each with why.
    """

    tally: Tally
    labels: tuple[str, ...]
    model: ModelId
    compared: ModelId | None
    parts: int
    parts_before: int
    rows_now: int
    seconds: float
    busy: Busy | None
    in_flight: int
    refusals: int
    passed_over: dict[str, str] = field(default_factory=dict)
