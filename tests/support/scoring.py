"""A scoring job in this process."""

from pathlib import Path
from typing import Any

from support.processes import ServerProcess

from mlpserve_client.scoring import Endpoint, Options, Summary, score


def score_job(server: ServerProcess, inputs: list[Path], output: Path, **options: Any) -> Summary:
    """Score paths of this machine; options as of `Options`."""
    return score(Endpoint(server.address), list(map(str, inputs)), str(output), Options(**options))
