"""What the page is told: the client's answers as plain values for JSON."""

import asyncio
import base64
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import Precision, Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse, ModelState, ModelSummary
from mlpserve_client.aio import AsyncClient
from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.messages.predictions import Predictions
from mlpserve_client.messages.responses import value_name
from mlpserve_client.pictures import LARGE, MOST_PIXELS, NotAPictureError, pixels_of
from mlpserve_client.prepare import from_bytes

MILLISECONDS = 1000.0
LISTED = 100  # versions on the page
ANSWERING = (ModelState.MODEL_STATE_SERVING, ModelState.MODEL_STATE_KEPT)


class Answers:
    """Calls one server; versions that are named get a client of their own.

    Args:
        endpoint: the server.
        raw: only scale pictures, do not look for ink; None: as the model was trained.
        max_pixels: width times height of the largest picture that is decoded.
    """

    def __init__(self, endpoint: Endpoint, raw: bool | None = None, max_pixels: int = MOST_PIXELS) -> None:
        self.endpoint = endpoint
        self._raw = raw
        self._max_pixels = max_pixels
        self._one_large = asyncio.Lock()
        self._clients: dict[int, AsyncClient] = {}
        self._known: dict[int, GetModelResponse] = {}  # by the version that was asked for

    def client(self, version: int = 0) -> AsyncClient:
        """The client for a version; 0 for the one that is served. Made in the event loop that uses it."""
        if version not in self._clients:
            self._clients[version] = AsyncClient(
                self.endpoint, version=version or self.endpoint.version, coalesce=False
            )
        return self._clients[version]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    async def model(self) -> dict[str, Any]:
        """What is served, and the versions beside it.

        Raises:
            ServerError: the server does not say.
        """
        client = self.client(self.endpoint.version)
        info, listed = await client.get_model(), await client.list_models(LISTED)
        self._known[self.endpoint.version] = info
        return {
            "target": self.endpoint.target,
            "served": _described(info),
            "labels": list(info.manifest.labels),
            "rows": info.manifest.image.rows,
            "cols": info.manifest.image.cols,
            "testAccuracy": info.manifest.evaluations[0].test_accuracy if info.manifest.evaluations else None,
            "data": info.manifest.training.data,
            "layers": list(info.manifest.network.layers),
            "versions": [_summary(summary) for summary in listed.models],
        }

    async def ask(self, image: npt.NDArray[np.uint8], version: int) -> dict[str, Any]:
        """The whole distribution for one image [rows, cols], and where the time went.

        Raises:
            ServerError: the call failed.
        """
        client = self.client(version)
        started = time.perf_counter()
        answer = await client.predict(image, probabilities=True, timing=True)
        elapsed = time.perf_counter() - started
        info = await self.info(version)
        if info.model.digest != answer.model.digest:
            del self._known[version]
            info = await self.info(version)
        return _answer(answer, elapsed) | {"provider": info.serving.provider}

    async def prepare(self, picture: bytes) -> npt.NDArray[np.uint8]:
        """A picture file as the model sees it, uint8 [rows, cols], by the client's own preparation.

        Raises:
            InvalidInputError: not a picture, too large, or there is no ink in it.
            ServerError: the server does not say what its images are like.
        """
        spec = (await self.info(self.endpoint.version)).manifest.image
        raw = spec.preparation != Preparation.PREPARATION_CENTRED_INK if self._raw is None else self._raw
        try:
            size = await asyncio.to_thread(pixels_of, picture, self._max_pixels)
        except NotAPictureError as error:
            raise NotAPictureError(f"this file is not a picture; {error}") from error
        # A thread that waits for a large one to be done would be missing for the small ones.
        async with self._one_large if size > LARGE else nullcontext():
            prepare = partial(from_bytes, picture, spec.rows, spec.cols, raw=raw, max_pixels=self._max_pixels)
            return await asyncio.to_thread(prepare)

    async def info(self, version: int) -> GetModelResponse:
        """What the server said of a version, 0 for the one that is served; asked for once until the answers differ.

        Raises:
            ServerError: the server does not say.
        """
        if version not in self._known:
            self._known[version] = await self.client(version).get_model()
        return self._known[version]


def picture_of(image: npt.NDArray[np.uint8]) -> str:
    """Pixels [rows, cols] as base64, row by row."""
    return base64.b64encode(image.tobytes()).decode()


def _described(info: GetModelResponse) -> dict[str, Any]:
    return {
        "name": info.model.name,
        "version": info.model.version,
        "digest": info.model.digest,
        "provider": info.serving.provider,
        "precision": value_name(Precision, info.serving.precision),
        "transport": info.serving.transport,
    }


def _summary(summary: ModelSummary) -> dict[str, Any]:
    return {
        "version": summary.model.version,
        "digest": summary.model.digest,
        "state": value_name(ModelState, summary.state),
        "answers": summary.state in ANSWERING,
        "promoted": summary.promoted,
        "testAccuracy": summary.test_accuracy,
        "detail": summary.detail,
    }


def _answer(answer: Predictions, elapsed: float) -> dict[str, Any]:
    assert answer.probabilities is not None
    timing = answer.timing
    return {
        "classId": int(answer.class_ids[0]),
        "probabilities": [round(value, 6) for value in answer.probabilities[0].tolist()],
        "name": answer.model.name,
        "version": answer.model.version,
        "digest": answer.model.digest,
        "totalMs": elapsed * MILLISECONDS,
        "queueMs": timing.queue_seconds * MILLISECONDS if timing else None,
        "runMs": timing.run_seconds * MILLISECONDS if timing else None,
        "batch": timing.batch_images if timing else None,
    }
