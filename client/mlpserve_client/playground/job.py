"""A scoring job beside a burst: as much batch traffic as one `mlpserve score` has in flight."""

import asyncio
from collections import Counter
from contextlib import suppress
from types import TracebackType

import numpy as np
import numpy.typing as npt

from mlpserve_client.aio import AsyncClient
from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.errors import MlpserveError, ServerError

IMAGES, IN_FLIGHT = 4096, 4  # as of `mlpserve score`
PAUSE = 0.2  # seconds after a request that failed
FIRST_ANSWER = 5.0  # longest wait for it


class Job:
    """Runs while its block does.

    Args:
        endpoint: the server.
        image: uint8 [rows, cols], which is all that it sends.
        most: images that the server takes in one request.
        timeout: seconds for one request.

    Attributes:
        images: that have been answered.
        failed: requests that were not, by gRPC code.
    """

    def __init__(self, endpoint: Endpoint, image: npt.NDArray[np.uint8], most: int, timeout: float) -> None:
        self._client = AsyncClient(Endpoint.of(endpoint, traffic="batch"), coalesce=False)
        self._images = np.repeat(image[None], min(IMAGES, most), axis=0)
        self._timeout = timeout
        self._answered = asyncio.Event()
        self.images = 0
        self.failed: Counter[str] = Counter()

    async def __aenter__(self) -> "Job":
        self._tasks = [asyncio.ensure_future(self._send()) for _ in range(IN_FLIGHT)]
        # So that the burst begins beside it, not before it; one that is never answered is shown too.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), FIRST_ANSWER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _send(self) -> None:
        while True:
            try:
                await self._client.predict(self._images, timeout=self._timeout)
                self.images += len(self._images)
                self._answered.set()
            except MlpserveError as error:
                self.failed[error.code.name if isinstance(error, ServerError) else type(error).__name__] += 1
                await asyncio.sleep(PAUSE)
