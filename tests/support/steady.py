"""A steady open-loop load in a process of its own, so that its latencies are not the test's.

    python tests/support/steady.py ADDRESS REQUESTS_PER_SECOND OUT TOKEN AUTHORITY

Calls until its standard input ends, then writes what became of every call to OUT as numpy columns. Every fourth call
has 16 images, the others one.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
from support.mnist import mnist_images

from mlpserve.v1.classifier_pb2 import PredictRequest, PredictResponse

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 256
CONNECTIONS = 4
SIZES = (1, 1, 1, 16)


class Outcomes(NamedTuple):
    """One row a call: when it was due (time.monotonic), seconds to its answer, gRPC code, version, images, answers."""

    due: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    first_images: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]  # [calls, 16], -1 where there are fewer


@contextlib.contextmanager
def steady_load(
    address: str, rate: int, folder: Path, token: str = "", authority: str = ""
) -> Iterator[list[Outcomes]]:
    """Load a server while the block runs; the list holds the outcomes after it.

    Args:
        address: of the server.
        rate: calls per second.
        folder: for files.
        token: that the calls show; empty: none.
        authority: path of the certificate of the one that the server has its certificate from; empty: no TLS.
    """
    out, result = folder / f"steady-{time.monotonic_ns()}.npz", list[Outcomes]()
    command = [sys.executable, "-m", "tests.support.steady", address, str(rate), str(out), token, authority]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdin is not None
        try:
            yield result
        finally:
            process.stdin.close()
            process.wait(60)
    columns = np.load(out)
    result.append(Outcomes(*(columns[name] for name in Outcomes._fields)))


def count_wrong(outcomes: Outcomes, base: npt.NDArray[np.int64]) -> int:
    """Answers that are not of the version that they name; version v of `publish_rolled` says base + v."""
    wrong = 0
    for first, version, class_ids in zip(outcomes.first_images, outcomes.versions, outcomes.class_ids, strict=True):
        ids = class_ids[class_ids >= 0]
        wrong += not np.array_equal(ids, (base[first : first + len(ids)] + version) % 10)
    return wrong


async def _call(
    method: "grpc.aio.UnaryUnaryMultiCallable[PredictRequest, PredictResponse]", number: int, due: float, token: str
) -> tuple[float, float, int, int, int, list[int]]:
    size, first = SIZES[number % len(SIZES)], number % (IMAGES - 16)
    images = mnist_images()[first : first + size].tobytes()
    version, class_ids, code = 0, [], 0
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        answer = await method(PredictRequest(images=images), timeout=20, metadata=metadata)
        version, class_ids = answer.model.version, list(answer.class_ids)
    except grpc.aio.AioRpcError as error:
        code = error.code().value[0]
    return due, time.monotonic() - due, code, version, first, class_ids + [-1] * (16 - len(class_ids))


def _channel(address: str, authority: str) -> grpc.aio.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]
    if not authority:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(Path(authority).read_bytes())
    return grpc.aio.secure_channel(
        address, credentials, options=[*options, ("grpc.ssl_target_name_override", "localhost")]
    )


async def _main(address: str, rate: int, out: str, token: str, authority: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, sys.stdin.read).add_done_callback(lambda _: ended.set())
    channels = [_channel(address, authority) for _ in range(CONNECTIONS)]
    methods = [
        channel.unary_unary(
            "/mlpserve.v1.ClassifierService/Predict",
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        for channel in channels
    ]
    mnist_images()
    tasks, start = [], time.monotonic()
    while not ended.is_set():
        due = start + len(tasks) / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        number = len(tasks)
        tasks.append(asyncio.ensure_future(_call(methods[number % CONNECTIONS], number, due, token)))
    rows = await asyncio.gather(*tasks)
    columns = zip(*rows, strict=True)
    np.savez(out, **{name: np.array(column) for name, column in zip(Outcomes._fields, columns, strict=True)})
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]))
