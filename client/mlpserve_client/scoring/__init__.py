"""Batch scoring: millions of rows over gRPC into Parquet, every row once, whatever dies in between.

job.py          the whole job: plan, go on or begin, sum up
beginning.py    the model, the inputs' form and the plan that a job begins with
appending.py    a finished job that goes on with new inputs
running/        the missing parts, here or on a Ray cluster
output/         what a job writes: plan, parts with their sidecars, sums
inputs/         files, folders and globs as rows
truth.py        true labels of the rows
options.py      how a job is run
summary.py      what a job came to
changed.py      inputs that have changed while a job ran
files.py        files and folders, local and remote
states.py       what a file is at one time; what has changed
"""

from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.scoring.errors import InputChangedError, ScoringError, TooManyErrors
from mlpserve_client.scoring.job import score
from mlpserve_client.scoring.options import Options
from mlpserve_client.scoring.summary import Summary

__all__ = ["Endpoint", "InputChangedError", "Options", "ScoringError", "Summary", "TooManyErrors", "score"]
