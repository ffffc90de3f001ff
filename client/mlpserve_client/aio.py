"""The asyncio client: `Client` with an await in front."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

import grpc
import numpy.typing as npt

from mlpserve.v1.classifier_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
)
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from mlpserve.v1.packed_pb2 import PackedPredictResponse
from mlpserve_client import requests
from mlpserve_client.channel import Tls, way_to
from mlpserve_client.coalesce import MAX_IMAGES, Coalescer
from mlpserve_client.errors import DeadlineExceededError, InvalidRequestError, ModelChangedError, from_rpc_error
from mlpserve_client.requests import Images, Options, Predictions
from mlpserve_client.retries import DEFAULT_RETRIES, Attempts, RetryBudget
from mlpserve_client.tracing import trace_metadata

T = TypeVar("T")


class AsyncClient:
    """Calls one server from one event loop.

    Args:
        target, model, version, timeout, retries, tls, token, token_over_plaintext: as for `Client`.
        coalesce: let small concurrent `predict` calls share requests.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "",
        version: int = 0,
        timeout: float = requests.DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        coalesce: bool = True,
        tls: Tls | None = None,
        token: str = "",
        token_over_plaintext: bool = False,
    ) -> None:
        self.target = target
        self._model = model
        self._version = requests.check_version(version)
        self._timeout = timeout
        self._retries = retries
        self._budget = RetryBudget()
        way = way_to(target, tls, token, token_over_plaintext)
        self._metadata = way.metadata
        self._channel = (
            grpc.aio.secure_channel(target, way.credentials, way.options)
            if way.credentials
            else grpc.aio.insecure_channel(target, way.options)
        )
        self._stub: Any = ClassifierServiceStub(self._channel)
        self._predict: Callable[..., Awaitable[PackedPredictResponse]] = self._channel.unary_unary(
            requests.PREDICT,
            response_deserializer=PackedPredictResponse.FromString,
        )
        self._info: GetModelResponse | None = None
        self._asking: asyncio.Task[GetModelResponse] | None = None
        self._coalesce = coalesce
        self._coalescer = Coalescer(self._request)

    async def predict(
        self,
        images: npt.ArrayLike,
        *,
        top_k: int = 1,
        probabilities: bool = False,
        timing: bool = False,
        timeout: float | None = None,
    ) -> Predictions:
        """See `Client.predict`. Small calls that are made at the same time share a request."""
        timeout = self._timeout if timeout is None else timeout
        attempts = self._attempts(timeout)
        info = self._info or await self._first_info(timeout)
        array = requests.check_images(images, info)
        requests.check_top_k(top_k, info)
        options = requests.Options(top_k, probabilities, timing)
        if not self._coalesce or len(array) > MAX_IMAGES:
            return await self._request(array, options, attempts.time_left())
        try:
            return await self._coalescer.predict(array, options, attempts.time_left())
        except TimeoutError as error:
            raise self._too_late(timeout) from error

    async def _first_info(self, timeout: float) -> GetModelResponse:
        """What the server says of its model; calls that need it at the same time ask once."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._get_model(self._attempts(timeout)))
            self._asking.add_done_callback(self._asked)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._asking)
        except TimeoutError as error:
            raise self._too_late(timeout) from error

    def _asked(self, task: "asyncio.Task[GetModelResponse]") -> None:
        self._asking = None
        if not task.cancelled() and task.exception() is None:
            self._info = task.result()

    def _too_late(self, timeout: float) -> DeadlineExceededError:
        message = f"{self.target}: no answer within {timeout:g} s"
        return DeadlineExceededError(message, grpc.StatusCode.DEADLINE_EXCEEDED, self.target)

    async def _request(self, array: Images, options: Options, timeout: float) -> Predictions:
        """Send an array in parts that the server accepts."""
        attempts = self._attempts(timeout)
        info = self._info or await self._get_model(attempts)
        try:
            for _ in range(requests.MODEL_CHANGES):
                parts = requests.build(
                    array,
                    requests.part_size(info),
                    model=self._model,
                    version=self._version,
                    options=options,
                )
                answers = [await self._call(self._predict, part, attempts) for part in parts]
                if requests.same_model(answers):
                    break
            return requests.join(answers, len(array))
        except (InvalidRequestError, ModelChangedError):
            self._info = None  # the server is not what it was; the next call asks it again
            raise

    async def get_model(self, timeout: float | None = None) -> GetModelResponse:
        """See `Client.get_model`."""
        return await self._get_model(self._attempts(timeout))

    async def list_models(self) -> ListModelsResponse:
        """See `Client.list_models`."""
        return await self._call(self._stub.ListModels, ListModelsRequest(), self._attempts(None))

    async def wait_ready(self, timeout: float) -> GetModelResponse:
        """See `Client.wait_ready`."""
        return await self._get_model(Attempts(timeout, 2**31, RetryBudget()))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _attempts(self, timeout: float | None) -> Attempts:
        """The clock of a call that begins now; None is the client's own timeout."""
        return Attempts(self._timeout if timeout is None else timeout, self._retries, self._budget)

    async def _get_model(self, attempts: Attempts) -> GetModelResponse:
        request = GetModelRequest(model=self._model, version=self._version)
        return await self._call(self._stub.GetModel, request, attempts)

    async def _call(self, method: Callable[..., Awaitable[T]], request: Any, attempts: Attempts) -> T:
        metadata = (*self._metadata, *trace_metadata())
        while True:
            try:
                return await method(request, timeout=attempts.time_left(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, self.target)
            await asyncio.sleep(attempts.delay(failure))
