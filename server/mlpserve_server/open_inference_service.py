"""The Open Inference Protocol's methods beside ModelInfer, answered from what ControlServices knows."""

from collections.abc import Callable
from importlib import metadata
from typing import Any

from google.protobuf.message import Message

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.codec import check_model
from mlpserve_server.errors import CallError, NotReady, Unsupported
from mlpserve_server.model import LoadedModel
from mlpserve_server.open_inference import INPUT, OUTPUTS, version_number

PLATFORM = "onnxruntime_onnx"  # what Triton calls an ONNX file in ONNX Runtime
DATA_TYPES = {"UINT8": oip.TYPE_UINT8, "INT32": oip.TYPE_INT32, "FP32": oip.TYPE_FP32}
STORE_DECIDES = "this server follows its store: publish or promote a version there (mlpserve-store promote)"


class OpenInference:
    """Answers about the server and its model.

    Args:
        current: the model that answers now, or None.
        serving: whether health says SERVING.
        listing: the store's versions, as ListModels lists them.
        max_batch: most images in one Run.
    """

    def __init__(
        self,
        current: Callable[[], LoadedModel | None],
        serving: Callable[[], bool],
        listing: Callable[[], pb.ListModelsResponse],
        max_batch: int,
    ) -> None:
        self._current = current
        self._serving = serving
        self._listing = listing
        self._max_batch = max_batch

    def methods(self) -> dict[str, tuple[Callable[[Any], Message], type[Message]]]:
        """Name → handler and its request type."""
        return {
            "ServerLive": (lambda _: oip.ServerLiveResponse(live=True), oip.ServerLiveRequest),
            "ServerReady": (lambda _: oip.ServerReadyResponse(ready=self._serving()), oip.ServerReadyRequest),
            "ModelReady": (self._model_ready, oip.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, oip.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, oip.ModelMetadataRequest),
            "ModelConfig": (self._model_config, oip.ModelConfigRequest),
            "RepositoryIndex": (self._index, oip.RepositoryIndexRequest),
            "RepositoryModelLoad": (_refuse, oip.RepositoryModelLoadRequest),
            "RepositoryModelUnload": (_refuse, oip.RepositoryModelUnloadRequest),
        }

    def _model(self, name: str, version: str) -> LoadedModel:
        model = self._current()
        if model is None:
            raise NotReady("the model is still being loaded; try again in a moment")
        check_model(name, version_number(version), model)
        return model

    def _model_ready(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:
        try:
            self._model(request.name, request.version)
        except CallError:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=self._serving())

    def _server_metadata(self, _: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:
        extensions = ["model_repository", "model_configuration"]
        return oip.ServerMetadataResponse(name="mlpserve", version=metadata.version("mlpserve"), extensions=extensions)

    def _model_metadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:
        model = self._model(request.name, request.version)
        response = oip.ModelMetadataResponse(name=model.ref.name, versions=[str(model.ref.version)], platform=PLATFORM)
        response.inputs.add(name=INPUT, datatype="UINT8", shape=[-1, model.pixels])
        for name, datatype in OUTPUTS.items():
            response.outputs.add(name=name, datatype=datatype, shape=[-1, *_dims(name, model)])
        return response

    def _model_config(self, request: oip.ModelConfigRequest) -> oip.ModelConfigResponse:
        model = self._model(request.name, request.version)
        config = oip.ModelConfig(
            name=model.ref.name, platform=PLATFORM, backend="onnxruntime", max_batch_size=self._max_batch
        )
        config.input.add(name=INPUT, data_type=oip.TYPE_UINT8, dims=[model.pixels])
        for name, datatype in OUTPUTS.items():
            # Triton has no tensors without dimensions; it writes a single value as [1] reshaped, its clients read [].
            config.output.add(name=name, data_type=DATA_TYPES[datatype], dims=_dims(name, model))
        return oip.ModelConfigResponse(config=config)

    def _index(self, request: oip.RepositoryIndexRequest) -> oip.RepositoryIndexResponse:
        response = oip.RepositoryIndexResponse()
        for summary in self._listing().models:
            serves = summary.state == pb.MODEL_STATE_SERVING
            if serves or not request.ready:
                state = "READY" if serves else "UNAVAILABLE"
                reason = summary.detail or ("" if serves else "not the version that is served")
                response.models.add(
                    name=summary.model.name, version=str(summary.model.version), state=state, reason=reason
                )
        return response


def _dims(name: str, model: LoadedModel) -> list[int]:
    return [model.classes] if name == "probabilities" else []


def _refuse(_: Message) -> Message:
    raise Unsupported(STORE_DECIDES)
