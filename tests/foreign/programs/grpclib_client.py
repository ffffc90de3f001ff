"""grpclib, gRPC in pure Python: see test_clients.py."""

import asyncio
import json
import sys
from pathlib import Path

from google.rpc import error_details_pb2  # noqa: F401, by which grpclib knows the details of errors
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError

from mlpserve.v1 import classifier_pb2 as pb


async def main(address: str, images: bytes) -> None:
    host, _, port = address.rpartition(":")
    large = pb.PredictRequest(images=images[:784] * 4096)
    found = {}
    async with Channel(host, int(port)) as channel:
        path = "/mlpserve.v1.ClassifierService/Predict"
        predict = UnaryUnaryMethod(channel, path, pb.PredictRequest, pb.PredictResponse)
        found["answer"] = list((await predict(pb.PredictRequest(images=images), timeout=30)).class_ids)
        try:
            await predict(large, timeout=0.02)
        except (TimeoutError, GRPCError) as error:  # grpclib keeps the time itself
            found["deadline"] = error.status.name if isinstance(error, GRPCError) else "DEADLINE_EXCEEDED"
        try:
            await predict(pb.PredictRequest(images=b"x"), timeout=30)
        except GRPCError as error:
            found["error"] = [error.status.name, *(detail.DESCRIPTOR.full_name for detail in error.details)]
        task = asyncio.create_task(predict(large, timeout=30))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            found["cancelled"] = "CANCELLED"
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
