"""The Open Inference Protocol's methods beside ModelInfer, answered from what ControlServices knows."""

import functools
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

from google.protobuf.message import Message

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.catalog import Catalog
from mlpserve_server.codecs.model_infer import INPUT, OUTPUTS
from mlpserve_server.codecs.naming import version_number
from mlpserve_server.control import model_config
from mlpserve_server.errors import CallError, Unsupported
from mlpserve_server.models.model import LoadedModel

MOST_LISTED = 1000  # versions in an index
STORE_DECIDES = "this server follows its store: publish or promote a version there (mlpserve-store promote)"


class OpenInference:
    """Answers about the server and its model.

    Args:
        catalog: knows which model answers.
        serving: whether health says SERVING.
        listing: so many of the store's versions, newest first, as ListModels lists them.
        serving_info: how a model is run.
    """

    def __init__(
        self,
        catalog: Catalog,
        serving: Callable[[], bool],
        listing: Callable[[int], Awaitable[pb.ListModelsResponse]],
        serving_info: Callable[[LoadedModel], pb.ServingInfo],
    ) -> None:
        self._catalog = catalog
        self._serving = serving
        self._listing = listing
        self._serving_info = serving_info

    def methods(self) -> dict[str, tuple[Callable[[Any], Message | Awaitable[Message]], type[Message]]]:
        """Name → handler and its request type."""
        return {
            "ServerLive": (lambda _: oip.ServerLiveResponse(live=True), oip.ServerLiveRequest),
            "ServerReady": (lambda _: oip.ServerReadyResponse(ready=self._serving()), oip.ServerReadyRequest),
            "ModelReady": (self._model_ready, oip.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, oip.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, oip.ModelMetadataRequest),
            "ModelConfig": (self._model_config, oip.ModelConfigRequest),
            "ModelStatistics": (self._model_statistics, oip.ModelStatisticsRequest),
            "RepositoryIndex": (self._index, oip.RepositoryIndexRequest),
            "RepositoryModelLoad": (_refuse, oip.RepositoryModelLoadRequest),
            "RepositoryModelUnload": (_refuse, oip.RepositoryModelUnloadRequest),
        }

    def _model(self, name: str, version: str) -> LoadedModel:
        return self._catalog.find(name, version_number(version)).model

    def _model_ready(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:
        try:
            self._model(request.name, request.version)
        except CallError:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self._serving())

    def _server_metadata(self, _: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:
        extensions = ["model_repository", "model_configuration", "statistics"]
        return oip.ServerMetadataResponse(name="mlpserve", version=_own_version(), extensions=extensions)

    def _model_metadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        model = self._model(request.name, request.version)
        response = oip.ModelMetadataResponse(
            name=model.ref.name, versions=[str(model.ref.version)], platform=model_config.PLATFORM
        )
        response.inputs.add(name=INPUT, datatype="UINT8", shape=[-1, model.pixels])
        for name, datatype in OUTPUTS.items():
            response.outputs.add(name=name, datatype=datatype, shape=[-1, *model_config.dims(name, model)])
        return response

    def _model_config(self, request: oip.ModelConfigRequest) -> oip.ModelConfigResponse:
        model = self._model(request.name, request.version)
        return oip.ModelConfigResponse(config=model_config.config(model, self._serving_info(model)))

    def _model_statistics(self, request: oip.ModelStatisticsRequest) -> oip.ModelStatisticsResponse:
        """Of the version that is named, or else of all that answer."""
        found = [self._catalog.find(request.name, version_number(request.version))]
        if not request.version:
            found += self._catalog.versions(request.name).kept.values()
        return oip.ModelStatisticsResponse(model_stats=map(model_config.statistics, found))

    async def _index(self, request: oip.RepositoryIndexRequest) -> oip.RepositoryIndexResponse:
        """The newest versions and the one that serves; the protocol has no pages."""
        response = oip.RepositoryIndexResponse()
        current = self._catalog.versions().serving
        serving = 0 if current is None else current.version
        if not request.ready:
            for summary in (await self._listing(MOST_LISTED)).models:
                if summary.state != pb.MODEL_STATE_SERVING:
                    reason = summary.detail or "not the version that is served"
                    version = str(summary.model.version)
                    response.models.add(name=summary.model.name, version=version, state="UNAVAILABLE", reason=reason)
                else:
                    response.models.add(name=summary.model.name, version=str(summary.model.version), state="READY")
                    serving = 0
        if current is not None and serving:  # not among the newest, or deleted
            response.models.add(name=current.model.ref.name, version=str(serving), state="READY")
        return response


@functools.cache  # it reads files
def _own_version() -> str:
    return metadata.version("mlpserve")


def _refuse(_: Message) -> Message:
    raise Unsupported(STORE_DECIDES)
