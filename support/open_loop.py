"""Single images at a fixed rate, whatever becomes of them, in a process of its own.

    python -m support.open_loop ADDRESS METHOD REQUESTS_PER_SECOND SECONDS

Prints a line of JSON: for each call the seconds from when it was due to its answer, and how many calls failed by code.
"""

import asyncio
import json
import sys
import time
from collections import Counter

import grpc

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.classifier_pb2 import PredictRequest

PREDICT, MODEL_INFER = "/mlpserve.v1.ClassifierService/Predict", "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 4


def body(method: str) -> bytes:
    """A request of one image."""
    if method == PREDICT:
        return PredictRequest(images=bytes(784)).SerializeToString()
    request = oip.ModelInferRequest(raw_input_contents=[bytes(784)])
    request.inputs.add(name="images", datatype="UINT8", shape=[1, 28, 28])
    content: bytes = request.SerializeToString()
    return content


async def _main(address: str, method: str, rate: float, seconds: float) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CONNECTIONS)]
    methods = [channel.unary_unary(method) for channel in channels]
    content = body(method)
    await asyncio.gather(*(call(content, timeout=10) for call in methods))
    taken: list[float] = []
    failed: Counter[str] = Counter()

    async def ask(number: int, due: float) -> None:
        try:
            await methods[number % CONNECTIONS](content, timeout=10)
            taken.append(time.perf_counter() - due)
        except grpc.aio.AioRpcError as error:
            failed[error.code().name] += 1

    start, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(ask(number, due)))
    await asyncio.gather(*tasks)
    print(json.dumps({"seconds": taken, "failed": failed}))
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
