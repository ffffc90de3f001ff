"""A thread with an asyncio loop in it, where a grpc.aio server lives."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mlpserve_server.errors import StartupError

T = TypeVar("T")

log = logging.getLogger(__name__)

CANCEL_SECONDS = 1.0  # for what is left at the end
LONGEST_PAUSE = 8.0  # seconds after a step that failed again and again


class AioThread:
    """Runs coroutines on its own event loop; one process should have only one (grpc.aio shares a poller)."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []  # the loop itself keeps none
        self._thread = threading.Thread(target=self._run, name="aio", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop from another thread and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def keep_doing(self, step: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        """Run a step every so often until the loop stops, whatever it raises: what fails is logged and tried again."""
        self.run(self._start(self._keep_doing(step, seconds)))

    async def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self.loop.create_task(coroutine))

    async def _keep_doing(self, step: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await step()
                pause = seconds
            except StartupError as error:
                pause = min(2 * pause, LONGEST_PAUSE)
                log.error("%s; tried again in %.1f s", error, pause)
            except Exception as error:
                pause = min(2 * pause, LONGEST_PAUSE)
                log.exception("the server's upkeep failed (%s); tried again in %.1f s", type(error).__name__, pause)

    def stop(self) -> None:
        """Stop the loop and end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            if tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_SECONDS))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()
