"""What a part needs to know of its job."""

from dataclasses import dataclass

from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.scoring.output.plan import Plan


@dataclass(frozen=True)
class Task:
    """A job as its parts see it; a plain value that can travel to other processes.

    Attributes:
        plan: of the job.
        output: the folder that parts are written to.
        endpoint: of the server that answers, with the version that is pinned.
        compared: of the server that answers for the second version; None for none.
        batch: rows in one request.
        in_flight: requests at a time.
    """

    plan: Plan
    output: str
    endpoint: Endpoint
    compared: Endpoint | None
    batch: int
    in_flight: int
