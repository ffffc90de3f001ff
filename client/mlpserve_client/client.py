"""The synchronous client."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, Unpack, cast

import grpc
import numpy as np
import numpy.typing as npt

from mlpserve.v1.classifier_pb2 import (
    GetModelRequest,
    GetModelResponse,
    ListModelsResponse,
)
from mlpserve_client.connection.channel import channel_config
from mlpserve_client.connection.endpoint import Endpoint, Settings
from mlpserve_client.connection.failures import from_rpc_error
from mlpserve_client.connection.retries import CALL_TIMEOUT, DEFAULT_RETRIES, Attempts, RetryPolicy
from mlpserve_client.connection.tracing import trace_metadata
from mlpserve_client.errors import (
    ClientClosedError,
    InvalidInputError,
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
    from mlpserve_client.images import Input, Picture

T = TypeVar("T")
Method = Callable[..., bytes]


class Client:
    """Calls one server. Threads may share it; it holds one connection.

    Args:
        target: "HOST:PORT", or any name that gRPC resolves; or an `Endpoint`, which has all of them.
        retries: most further attempts when the server is unavailable or asks to come back later; None: as many as the
            timeout allows.
        settings: keyword arguments, as `Endpoint` describes them:
            model: name of the model; "" for the one that the server serves.
            version: version that must answer; 0 for the one that the server serves.
            timeout: seconds for a whole call, its retries included (10 by default); every call has a deadline.
            tls: how to encrypt; None for plaintext.
            token: bearer token to show, for servers that want one.
            token_over_plaintext: show it without TLS to other hosts too, where something between encrypts.
            traffic: who waits for the answers: "interactive", "batch" for jobs, "" to let the server judge by size.

    Attributes:
        target: the server's address.
        retry: when calls are tried again.

    Raises:
        InvalidInputError: a file for TLS cannot be read, or the token would travel unencrypted.
    """

    def __init__(
        self, target: str | Endpoint, *, retries: int | None = DEFAULT_RETRIES, **settings: Unpack[Settings]
    ) -> None:
        endpoint = Endpoint.of(target, **settings)
        self.target = endpoint.target
        self._endpoint = endpoint
        self._model, self._version, self._traffic = endpoint.model, endpoint.version, endpoint.traffic
        self.retry = RetryPolicy(CALL_TIMEOUT if endpoint.timeout is None else endpoint.timeout, retries)
        config = channel_config(endpoint)
        self._metadata = config.metadata
        self._channel = (
            grpc.secure_channel(self.target, config.credentials, config.options)
            if config.credentials
            else grpc.insecure_channel(self.target, config.options)
        )
        # Bytes both ways: what cannot be read is an error of ours, which gRPC would log with a traceback.
        self._predict: Method = self._channel.unary_unary(encoding.PREDICT)
        self._describe: Method = self._channel.unary_unary(encoding.GET_MODEL)
        self._list: Method = self._channel.unary_unary(encoding.LIST_MODELS)
        self._responses = Responses(self.target, self._model, self._version)
        self._info: GetModelResponse | None = None
        self._closed = threading.Event()

    def predict(
        self,
        images: "Input",
        *,
        top_k: int = 1,
        probabilities: bool = False,
        timing: bool = False,
        timeout: float | None = None,
    ) -> Predictions:
        """Classify images; large arrays are sent in parts that the server accepts.

        Args:
            images: uint8 [N, rows, cols], [rows, cols] or [N, rows * cols]. Or a picture of any size, or a list of
                them: PIL images, paths, or the content of files (PNG, JPEG …) in bytes; they are prepared as
                `mlpserve predict` does it, and need Pillow.
            top_k: classes to return for each image.
            probabilities: return the whole distribution as well.
            timing: return how long requests waited and ran as well.
            timeout: seconds for all of it; None for the client's own.

        Raises:
            InvalidInputError: wrong type or shape, or no readable picture; nothing was sent.
            ServerError: the call failed; the subclass says how.
            InvalidResponseError: the server's answer does not fit the request or the model's description.
            ModelChangedError: new versions took over meanwhile, again and again.
            ClientClosedError: the client is closed, or was closed meanwhile.
        """
        attempts = self.retry.begin(timeout)
        options, pictures = Options(top_k, probabilities, timing), are_pictures(images)
        for _ in range(encoding.MODEL_CHANGES):
            info = self._info or self._get_model(attempts)
            self._info = info  # which another thread may forget meanwhile
            array = encoding.check_images(prepared(images, info) if pictures else cast(npt.ArrayLike, images), info)
            encoding.check_top_k(top_k, info)
            try:
                answer = self._ask(array, options, info, attempts)
            except (InvalidRequestError, InvalidResponseError, ModelChangedError):
                self._info = None  # the server is not what it was; the next call asks it again
                raise
            if answer.model.digest == info.model.digest:
                return answer
            if not pictures:
                return self._named(answer, attempts)
            self._info = None
        raise ModelChangedError(  # each may want pictures prepared in its own way
            "versions take over from one another faster than pictures are prepared; call again, or pin the version"
        )

    def _named(self, answer: Predictions, attempts: Attempts) -> Predictions:
        """An answer of another version than the one that was described, with the names of its classes."""
        if not answer.classes:
            self._info = None  # a new version, which the next call asks about
            request = GetModelRequest(model=answer.model.name, version=answer.model.version).SerializeToString()
            with suppress(MlpserveError):  # it has gone already; the numbers stand without names
                self._responses.info(self._call(self._describe, request, attempts))
        return replace(answer, classes=self._responses.classes(answer.model.digest))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the model's classes, by number, as the server last described it.

        Raises:
            ServerError: the server was asked for the first time, and the call failed.
        """
        return tuple(self._described().manifest.labels)

    @property
    def model(self) -> ModelId:
        """The model that answers, as the server last described it; an answer's own `model` says who gave it.

        Raises:
            ServerError: the server was asked for the first time, and the call failed.
        """
        return model_id(self._described())

    def _described(self) -> GetModelResponse:
        info = self._info or self._get_model(self.retry.begin())
        self._info = info
        return info

    def _ask(self, array: Images, options: Options, info: GetModelResponse, attempts: Attempts) -> Predictions:
        """Send an array in parts that the server accepts, all of them again while versions change between them."""
        size = encoding.part_size(info)
        for _ in range(encoding.MODEL_CHANGES):
            parts = encoding.build(
                array, size, model=self._model, version=self._version, options=options, traffic=self._traffic
            )
            answers = [self._responses.predict(self._call(self._predict, part, attempts)) for part in parts]
            if same_model(answers):
                break
        sizes = encoding.sizes(len(array), size)
        try:
            return self._responses.join(answers, sizes, options, info)
        except InvalidResponseError:
            if answers[0].model == info.model:
                raise
        # Another version took over, which may have other classes: its answer is held against its own description.
        info = self._info = self._get_model(attempts)
        check_size(array, info)
        return self._responses.join(answers, sizes, options, info)

    def map(
        self,
        images: "Iterable[npt.ArrayLike | Picture]",
        *,
        batch: int = 256,
        in_flight: int = 4,
        timeout: float | None = None,
    ) -> Iterator[Predictions]:
        """Classify a stream of images with a bounded number of requests in flight.

        Args:
            images: single images, uint8 [rows, cols] or [rows * cols], or pictures as for `predict`; read as
                far ahead as is in flight.
            batch: images in one request.
            in_flight: most requests at a time.
            timeout: seconds for one request with its retries; None for the client's own.

        Yields:
            One answer for each image, in order, each with arrays of length 1.

        Raises:
            InvalidInputError: wrong type or shape of an image.
            ServerError: a request failed; answers before it have been yielded.
        """
        with ThreadPoolExecutor(in_flight) as pool:
            waiting: deque[Future[Predictions]] = deque()
            try:
                for part in batched(images, batch):
                    waiting.append(pool.submit(self.predict, _stack(part), timeout=timeout))
                    if len(waiting) > in_flight:
                        yield from _each(waiting.popleft().result())
                while waiting:
                    yield from _each(waiting.popleft().result())
            finally:
                for future in waiting:  # after a failure, or when the caller has seen enough
                    future.cancel()

    def get_model(self, timeout: float | None = None) -> GetModelResponse:
        """Describe the model that answers, with its manifest.

        Raises:
            ServerError: the call failed.
        """
        return self._get_model(self.retry.begin(timeout))

    def list_models(self, limit: int = 0) -> ListModelsResponse:
        """List the versions in the server's store, newest first, page by page.

        Args:
            limit: most versions; 0 for all. `total_size` of the answer says how many there are.

        Raises:
            ServerError: a call failed, or its answer is no page of the listing.
        """
        pages, attempts = Pages(limit, self.target), self.retry.begin()
        while pages.request is not None:
            content = self._call(self._list, pages.request.SerializeToString(), attempts)
            pages.add(self._responses.listed(content))
        return pages.listed

    def wait_ready(self, timeout: float) -> GetModelResponse:
        """Wait until the server answers with a proven model.

        Raises:
            ServerError: it does not within `timeout` seconds.
        """
        return self._get_model(RetryPolicy(timeout, retries=None).begin())

    def close(self) -> None:
        """Close the connection. Calls that other threads wait for end with ClientClosedError, as do later ones."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _get_model(self, attempts: Attempts) -> GetModelResponse:
        request = GetModelRequest(model=self._model, version=self._version).SerializeToString()
        return self._responses.info(self._call(self._describe, request, attempts))

    def _call(self, method: Method, request: bytes, attempts: Attempts) -> bytes:
        metadata = (*self._metadata, *trace_metadata())
        while not self._closed.is_set():
            try:
                return method(request, timeout=attempts.time_left(), metadata=metadata)
            except grpc.RpcError as error:
                failure = from_rpc_error(error, self._endpoint, attempts.timeout)
            except ValueError:  # gRPC's word for a closed channel
                if self._closed.is_set():
                    break
                raise
            if not self._closed.is_set():  # which ends calls with a status like a server's
                self._closed.wait(attempts.delay(failure))
        raise ClientClosedError(f"{self.target}: the client is closed; make a new one")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, in order (`itertools.batched` of Python 3.12)."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _stack(images: "list[npt.ArrayLike | Picture]") -> "Input":
    if are_pictures(cast("Input", images)):
        return cast("Input", images)
    try:
        return np.stack([np.asarray(image) for image in images])
    except ValueError as error:
        raise InvalidInputError(f"the images of a stream must all have one shape: {error}") from error


def _each(predictions: Predictions) -> Iterator[Predictions]:
    return (predictions.rows(row, row + 1) for row in range(len(predictions)))
