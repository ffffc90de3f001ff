"""Batch scoring: read rows, send them in bounded requests, write one Parquet row for each."""

from mlpserve_client.scoring.job import Summary, score
from mlpserve_client.scoring.sources import ScoringError

__all__ = ["ScoringError", "Summary", "score"]
