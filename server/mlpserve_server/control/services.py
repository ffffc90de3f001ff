"""Every method but Predict and ModelInfer: what the server says about itself, on a grpc.aio server."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.catalog import Catalog
from mlpserve_server.control import reflection
from mlpserve_server.control.health import Health
from mlpserve_server.control.listing import Listing
from mlpserve_server.control.open_inference import OpenInference
from mlpserve_server.errors import CallError, StartupError
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.store.folder import Store

SERVICE = "mlpserve.v1.ClassifierService"
OPEN_INFERENCE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
READINESS, LIVENESS = "readiness", "liveness"
HEALTH_NAMES = ("", SERVICE, OPEN_INFERENCE, READINESS)


class Registry(Protocol):
    """What services are added to: a grpc.aio server, or what stands in for one."""

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Add handlers of any method."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Add handlers of a service's methods by name."""


class ControlServices:
    """What the server says about itself.

    Args:
        store: for ListModels.
        catalog: knows which model answers.
        serving_info: how a model is run.
    """

    def __init__(self, store: Store, catalog: Catalog, serving_info: Callable[[LoadedModel], pb.ServingInfo]) -> None:
        self._catalog = catalog
        self._serving_info = serving_info
        self._serving = False
        self._listing = Listing(store, catalog)
        self._open_inference = OpenInference(catalog, lambda: self._serving, self._listing.page, serving_info)

    async def register(
        self, server: "Registry", carried: "Mapping[str, grpc.RpcMethodHandler[Any, Any]] | None" = None
    ) -> None:
        """Add the services to a server that has not started; health begins as NOT_SERVING.

        Args:
            server: from the event loop that it runs on.
            carried: path → handler of the methods that go to the batching loop, as far as this server carries them.
        """
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            SERVICE: {
                "GetModel": _handler(self._get_model, pb.GetModelRequest),
                "ListModels": _handler(self._list_models, pb.ListModelsRequest),
            },
            OPEN_INFERENCE: {name: _handler(*method) for name, method in self._open_inference.methods().items()},
        }
        for path, handler in (carried or {}).items():
            _, service, method = path.split("/")
            services[service][method] = handler
        services |= reflection.handlers((SERVICE, OPEN_INFERENCE, HEALTH))
        # Both ways, as generated code does: grpc.aio looks in the first, others in the second.
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(name, handlers) for name, handlers in services.items())
        )
        for name, handlers in services.items():
            server.add_registered_method_handlers(name, handlers)
        self._health = Health()
        await self.set_serving(False)
        # Never withdrawn: a probe on it must not kill a server that drains, and one that is stuck ends by itself.
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)

    async def set_serving(self, serving: bool) -> None:
        """Set the status of every name; callers that Watch are told."""
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in HEALTH_NAMES:
            await self._health.set(name, status)

    def _get_model(self, request: pb.GetModelRequest) -> pb.GetModelResponse:
        model = self._catalog.find(request.model, request.version).model
        return pb.GetModelResponse(model=model.ref, manifest=model.version.manifest, serving=self._serving_info(model))

    def _list_models(self, request: pb.ListModelsRequest) -> Awaitable[pb.ListModelsResponse]:
        return self._listing.page(request.page_size, request.page_token)


def _handler(
    answer: Callable[[Any], Message | Awaitable[Message]], request_type: type[Message]
) -> "grpc.RpcMethodHandler[Any, Any]":
    """A unary handler that turns the server's own errors into statuses.

    Args:
        answer: must not block, for this loop may carry Predict; what waits, such as for the store, is awaited.
        request_type: of the request.
    """

    async def handle(request: Message, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
        try:
            answered = answer(request)
            return answered if isinstance(answered, Message) else await answered
        except CallError as error:
            await context.abort(error.code, str(error), error.trailing_metadata())
        except StartupError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
