"""grpc.aio: see test_clients.py."""

import asyncio
import json
import sys
from pathlib import Path

import grpc
from google.rpc import status_pb2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub


async def main(address: str, images: bytes) -> None:
    large = pb.PredictRequest(images=images[:784] * 4096)
    found = {}
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = ClassifierServiceStub(channel)
        found["answer"] = list((await stub.Predict(pb.PredictRequest(images=images), timeout=30)).class_ids)
        try:
            await stub.Predict(large, timeout=0.02)
        except grpc.aio.AioRpcError as error:
            found["deadline"] = error.code().name
        try:
            await stub.Predict(pb.PredictRequest(images=b"x"), timeout=30)
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata())
            details = status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details
            found["error"] = [error.code().name, *(detail.TypeName() for detail in details)]
        call = stub.Predict(large, timeout=30)
        await asyncio.sleep(0.1)
        call.cancel()
        found["cancelled"] = (await call.code()).name
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
