"""An asyncio worker: picture paths on standard input, one JSON line per picture on standard output.

    pip install '.[images]'
    find photos -name '*.png' | python examples/worker.py 127.0.0.1:50051

- At most IN_FLIGHT pictures are read or classified at a time, and a bounded queue stops reading standard input when
  the server is slower than whatever writes the paths (backpressure).
- SIGTERM or Ctrl-C shuts down gracefully: the worker takes no more paths and finishes those it has taken.
"""

import argparse
import asyncio
import json
import signal
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

from mlpserve_client import AsyncClient, InvalidInputError, MlpserveError

IN_FLIGHT = 32  # pictures
WAITING = 64  # paths that have been read and are waiting for a free slot

Paths = asyncio.Queue[Path | None]  # None ends it


async def main() -> int:
    """Run until standard input ends or a signal arrives; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", metavar="HOST:PORT")
    target = parser.parse_args().server
    loop, paths, stop = asyncio.get_running_loop(), Paths(WAITING), asyncio.Event()
    async with AsyncClient(target, timeout=30) as client:
        try:
            await client.get_model()
        except MlpserveError as error:
            print(f"worker: {error}", file=sys.stderr)
            return 1
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        workers = [asyncio.create_task(work(paths, client)) for _ in range(IN_FLIGHT)]
        threading.Thread(target=read_paths, args=(paths, loop, stop), daemon=True).start()
        await stop.wait()
        for _ in workers:
            await paths.put(None)  # the end of the queue, once per worker
        done = sum(await asyncio.gather(*workers))
    print(f"worker: {done} pictures done", file=sys.stderr)
    return 0


def read_paths(paths: Paths, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Put every line of standard input into the queue, waiting while it is full; then set `stop`.

    In a thread of its own, because asyncio cannot read a regular file without blocking.
    """
    with suppress(CancelledError):  # the worker has stopped while this waited
        for line in sys.stdin:
            if stop.is_set():
                return
            asyncio.run_coroutine_threadsafe(paths.put(Path(line.rstrip("\n"))), loop).result()
        loop.call_soon_threadsafe(stop.set)


async def work(paths: Paths, client: AsyncClient) -> int:
    """Classify pictures until the queue ends; returns how many."""
    done = 0
    while (path := await paths.get()) is not None:
        print(json.dumps({"path": str(path)} | await classify(path, client)), flush=True)
        done += 1
    return done


async def classify(path: Path, client: AsyncClient) -> dict[str, object]:
    """The answer for one picture, or what went wrong: one bad picture does not stop the worker."""
    try:
        (best,) = await client.predict(path)
    except InvalidInputError as error:
        return {"error": str(error)}
    except MlpserveError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"label": best.label, "score": round(best.score, 4)}


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
