"""Health checking with List, which grpcio's own service describes and does not have."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio


class Health(health_aio.HealthServicer):  # type: ignore[misc]
    """The status of each name, for Check, Watch and List."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, health_pb2.HealthCheckResponse.ServingStatus] = {}

    async def set(self, service: str, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Set the status of a name; callers that Watch it are told."""
        self._statuses[service] = status
        await super().set(service, status)

    async def List(self, request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:  # noqa: N802
        """Every name with its status."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status) for name, status in sorted(self._statuses.items())
        }
        return health_pb2.HealthListResponse(statuses=statuses)
