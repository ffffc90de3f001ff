"""Batch scoring: millions of rows over gRPC into Parquet, every row once, whatever dies in between.

job.py          the whole job: plan, go on or begin, sum up
output/         what a job writes: plan, parts with their sidecars, sums
inputs/         files, folders and globs as rows
states.py       what a file is at one time; what has changed
changed.py      inputs that have changed while a job ran
pipeline.py     read, decode, ask and write at the same time
window.py       how many requests are in flight
on_ray.py       the same parts as tasks of a Ray cluster
"""

from mlpserve_client.scoring.endpoint import Endpoint
from mlpserve_client.scoring.errors import InputChangedError, ScoringError, TooManyErrors
from mlpserve_client.scoring.job import Options, Summary, score

__all__ = ["Endpoint", "InputChangedError", "Options", "ScoringError", "Summary", "TooManyErrors", "score"]
