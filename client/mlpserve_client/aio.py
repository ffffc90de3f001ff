"""The asyncio client: `Client` with an await in front."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Unpack, cast

import grpc
import numpy.typing as npt

from mlpserve.v1.classifier_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsResponse,
)
from mlpserve_client.coalesce import MAX_IMAGES, Coalescer, Send
from mlpserve_client.connection.channel import ChannelConfig, channel_config
from mlpserve_client.connection.endpoint import Endpoint, Settings
from mlpserve_client.connection.failures import from_rpc_error, too_late
from mlpserve_client.connection.retries import CALL_TIMEOUT, DEFAULT_RETRIES, SHORTEST, Attempts, RetryPolicy
from mlpserve_client.connection.tracing import trace_metadata
from mlpserve_client.errors import (
    ClientClosedError,
    DeadlineExceededError,
    InvalidRequestError,
    InvalidResponseError,
    MlpserveError,
    ModelChangedError,
)
from mlpserve_client.images import are_pictures, prepared
from mlpserve_client.messages import encoding
from mlpserve_client.messages.encoding import Images, Options
from mlpserve_client.messages.pages import Pages
from mlpserve_client.messages.predictions import ModelId, Predictions
from mlpserve_client.messages.responses import Responses, check_size, model_id, same_model

if TYPE_CHECKING:
    from mlpserve_client.images import Input

Method = Callable[..., Awaitable[bytes]]


class _Connection:
    """What belongs to one event loop: gRPC's channel, and the calls that wait. Made in that loop.

    Attributes:
        channel: to the server.
        predict, describe, list_models: the methods, from bytes to bytes.
        coalescer: of small calls.
        closed: set when the client is closed.
        asking: tasks that ask for the model's description, by the timeout of those who wait.
    """

    def __init__(self, target: str, config: ChannelConfig, send: Send) -> None:
        self.channel = (
            grpc.aio.secure_channel(target, config.credentials, config.options)
            if config.credentials
            else grpc.aio.insecure_channel(target, config.options)
        )
        # Bytes both ways: what cannot be read is an error of ours, which gRPC would log with a traceback.
        self.predict: Method = self.channel.unary_unary(encoding.PREDICT)
        self.describe: Method = self.channel.unary_unary(encoding.GET_MODEL)
        self.list_models: Method = self.channel.unary_unary(encoding.LIST_MODELS)
        self.coalescer = Coalescer(send)
        self.closed = asyncio.Event()
        self.asking: dict[float, asyncio.Task[GetModelResponse]] = {}

    async def close(self, error: Exception) -> None:
        """Fail the calls that wait, and close the channel."""
        self.closed.set()
        self.coalescer.close(error)
        await self.channel.close()


class AsyncClient:
    """Calls one server from asyncio code.

    It may be made anywhere, at the top of a module too. gRPC's channels belong to an event loop: the client connects in
    each loop that it is used in, once. What belongs to a loop that has ended is dropped.

    Args:
        target, retries, settings: as for `Client`.
        coalesce: let small concurrent `predict` calls share requests.

    Attributes:
        target: the server's address.
        retry: when calls are tried again.

    Raises:
        InvalidInputError: as of `Client`.
    """

    def __init__(
        self,
        target: str | Endpoint,
        *,
        retries: int | None = DEFAULT_RETRIES,
        coalesce: bool = True,
        **settings: Unpack[Settings],
    ) -> None:
        endpoint = Endpoint.of(target, **settings)
        self.target = endpoint.target
        self._model, self._version, self._traffic = endpoint.model, endpoint.version, endpoint.traffic
        self.retry = RetryPolicy(CALL_TIMEOUT if endpoint.timeout is None else endpoint.timeout, retries)
        self._endpoint = endpoint
        self._config = channel_config(endpoint)
        self._responses = Responses(self.target, self._model, self._version)
        self._info: GetModelResponse | None = None
        self._coalesce = coalesce
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._closed = False

    def _open(self) -> _Connection:
        """The running loop's connection, made in its first call.

        Raises:
            ClientClosedError: the client is closed.
        """
        if self._closed:
            raise self._is_closed()
        loop = asyncio.get_running_loop()
        connection = self._connections.get(loop)
        if connection is None:
            for other in [other for other in list(self._connections) if other.is_closed()]:
                self._connections.pop(other, None)  # which another thread may have dropped meanwhile
            connection = self._connections[loop] = _Connection(self.target, self._config, self._request)
        return connection

    async def predict(
        self,
        images: "Input",
        *,
        top_k: int = 1,
        probabilities: bool = False,
        timing: bool = False,
        timeout: float | None = None,
    ) -> Predictions:
        """See `Client.predict`. Small calls that are made at the same time share a request.

        Pictures are read in a thread.
        """
        connection = self._open()
        timeout = self.retry.timeout if timeout is None else timeout
        attempts = self.retry.begin(timeout)
        options, pictures = encoding.Options(top_k, probabilities, timing), are_pictures(images)
        for _ in range(encoding.MODEL_CHANGES):
            info = self._info or await self._first_info(connection, timeout)
            if pictures:
                array = encoding.check_images(await asyncio.to_thread(prepared, images, info), info)
            else:
                array = encoding.check_images(cast(npt.ArrayLike, images), info)
            encoding.check_top_k(top_k, info)
            if not self._coalesce or len(array) > MAX_IMAGES:
                answer = await self._request(array, options, attempts.time_left())
            else:
                try:
                    answer = await connection.coalescer.predict(array, options, attempts.time_left())
                except TimeoutError as error:
                    raise self._too_late(timeout) from error
            if answer.model.digest == info.model.digest:
                return answer
            if not pictures:
                return await self._named(answer, attempts)
            self._info = None
        raise ModelChangedError(  # each may want pictures prepared in its own way
            "versions take over from one another faster than pictures are prepared; call again, or pin the version"
        )

    async def _named(self, answer: Predictions, attempts: Attempts) -> Predictions:
        """See `Client._named`."""
        if not answer.classes:
            self._info = None  # a new version, which the next call asks about
            request = GetModelRequest(model=answer.model.name, version=answer.model.version).SerializeToString()
            with suppress(MlpserveError):
                self._responses.info(await self._call(self._open().describe, request, attempts))
        return replace(answer, classes=self._responses.classes(answer.model.digest))

    @property
    def labels(self) -> Awaitable[tuple[str, ...]]:
        """`await client.labels`; see `Client.labels`."""
        return self._labels()

    @property
    def model(self) -> Awaitable[ModelId]:
        """`await client.model`; see `Client.model`."""
        return self._model_id()

    async def _labels(self) -> tuple[str, ...]:
        info = self._info or await self._first_info(self._open(), self.retry.timeout)
        return tuple(info.manifest.labels)

    async def _model_id(self) -> ModelId:
        return model_id(self._info or await self._first_info(self._open(), self.retry.timeout))

    async def _first_info(self, connection: _Connection, timeout: float) -> GetModelResponse:
        """What the server says of its model; calls with the same timeout that need it at the same time ask once."""
        attempts, cancels = self.retry.begin(timeout), _cancels()
        while True:
            asking = connection.asking.get(timeout)
            if asking is None:
                asking = connection.asking[timeout] = asyncio.ensure_future(self._get_model(attempts))
                asking.add_done_callback(lambda task: self._asked(connection, task, timeout))
            try:
                async with asyncio.timeout(attempts.time_left()):
                    return await asyncio.shield(asking)
            except TimeoutError as error:
                raise self._too_late(timeout) from error
            except DeadlineExceededError:  # of a call that came before this one
                if attempts.time_left() <= SHORTEST:
                    raise
            except asyncio.CancelledError:
                if _cancels() > cancels or not asking.cancelled():
                    raise
                self._open()  # somebody else cancelled the task that asked; ask again, unless it was our end

    def _asked(self, connection: _Connection, task: "asyncio.Task[GetModelResponse]", timeout: float) -> None:
        del connection.asking[timeout]
        if not task.cancelled() and task.exception() is None:
            self._info = task.result()

    def _too_late(self, timeout: float) -> DeadlineExceededError:
        message = f"{self.target}: {too_late(timeout)}"
        return DeadlineExceededError(message, grpc.StatusCode.DEADLINE_EXCEEDED, self.target)

    async def _request(self, array: Images, options: Options, timeout: float) -> Predictions:
        """Send an array in parts that the server accepts."""
        attempts = self.retry.begin(timeout)
        info = self._info or await self._get_model(attempts)
        try:
            return await self._ask(array, options, info, attempts)
        except (InvalidRequestError, InvalidResponseError, ModelChangedError):
            self._info = None  # the server is not what it was; the next call asks it again
            raise

    async def _ask(self, array: Images, options: Options, info: GetModelResponse, attempts: Attempts) -> Predictions:
        """See `Client._ask`."""
        predict = self._open().predict
        size = encoding.part_size(info)
        for _ in range(encoding.MODEL_CHANGES):
            parts = encoding.build(
                array, size, model=self._model, version=self._version, options=options, traffic=self._traffic
            )
            answers = [self._responses.predict(await self._call(predict, part, attempts)) for part in parts]
            if same_model(answers):
                break
        sizes = encoding.sizes(len(array), size)
        try:
            return self._responses.join(answers, sizes, options, info)
        except InvalidResponseError:
            if answers[0].model == info.model:
                raise
        info = self._info = await self._get_model(attempts)
        check_size(array, info)
        return self._responses.join(answers, sizes, options, info)

    async def get_model(self, timeout: float | None = None) -> GetModelResponse:
        """See `Client.get_model`."""
        return await self._get_model(self.retry.begin(timeout))

    async def list_models(self, limit: int = 0) -> ListModelsResponse:
        """See `Client.list_models`."""
        list_models = self._open().list_models
        pages, attempts = Pages(limit, self.target), self.retry.begin()
        while pages.request is not None:
            content = await self._call(list_models, pages.request.SerializeToString(), attempts)
            pages.add(self._responses.listed(content))
        return pages.listed

    async def wait_ready(self, timeout: float) -> GetModelResponse:
        """See `Client.wait_ready`."""
        return await self._get_model(RetryPolicy(timeout, retries=None).begin())

    async def close(self) -> None:
        """Close the connections. Calls that are waited for end with ClientClosedError, as do later ones."""
        self._closed = True
        connections, self._connections = self._connections, {}
        for loop, connection in connections.items():
            if loop is asyncio.get_running_loop():
                await connection.close(self._is_closed())
            elif loop.is_running():  # in another thread, which need not be waited for
                asyncio.run_coroutine_threadsafe(connection.close(self._is_closed()), loop)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _get_model(self, attempts: Attempts) -> GetModelResponse:
        request = GetModelRequest(model=self._model, version=self._version).SerializeToString()
        return self._responses.info(await self._call(self._open().describe, request, attempts))

    async def _call(self, method: Method, request: bytes, attempts: Attempts) -> bytes:
        metadata = (*self._config.metadata, *trace_metadata())
        cancels = _cancels()
        closed = self._open().closed
        while not closed.is_set():
            try:
                return await method(request, timeout=attempts.time_left(), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error, self._endpoint, attempts.timeout)
            except (grpc.aio.UsageError, asyncio.CancelledError):
                # A channel that is closed cancels its calls, and whoever waits for one seems to be cancelled.
                if not closed.is_set() or _cancels() > cancels:
                    raise
                break
            if not closed.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(attempts.delay(failure)):
                        await closed.wait()
        raise self._is_closed()

    def _is_closed(self) -> ClientClosedError:
        return ClientClosedError(f"{self.target}: the client is closed; make a new one")


def _cancels() -> int:
    """How often the running task was cancelled; more than before: a CancelledError is meant for it."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
