"""KServe's own client: gRPC to the server, or REST to the gateway; see test_kserve.py."""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request(model: str, array: np.ndarray, binary: bool) -> InferRequest:
    tensor = InferInput("images", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], request_id="r7")


async def over_grpc(address: str, images: np.ndarray) -> dict[str, object]:
    found: dict[str, object] = {}
    async with InferenceGRPCClient(address, timeout=30) as client:
        found["ready"] = [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready("slow"),
        ]
        answer = await client.infer(request("slow", images, True))
        found["answer"] = answer.outputs[0].as_numpy().tolist()
        try:
            await client.infer(request("slow", images[:, :5].copy(), True))
        except grpc.RpcError as error:
            found["error"] = error.code().name
        try:
            await client.infer(request("slow", np.repeat(images[:1], 4096, axis=0), True), timeout=0.02)
        except grpc.RpcError as error:
            found["deadline"] = error.code().name
    return found


async def over_rest(url: str, images: np.ndarray) -> dict[str, object]:
    found: dict[str, object] = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    found["ready"] = [
        await client.is_server_live(url),
        await client.is_server_ready(url),
        await client.is_model_ready(url, "mnist"),
    ]
    found["absent"] = await client.is_model_ready(url, "cifar")
    for binary in (False, True):
        answer = await client.infer(url, request("mnist", images, binary), model_name="mnist")
        found["binary" if binary else "json"] = [answer.id, answer.outputs[0].as_numpy().tolist()]
    try:
        await client.infer(url, request("mnist", images[:, :5].copy(), False), model_name="mnist")
    except httpx.HTTPStatusError as error:
        found["error"] = error.response.status_code
    await client.close()
    return found


images = np.frombuffer(Path(sys.argv[3]).read_bytes(), np.uint8).reshape(-1, 784)
run = over_grpc if sys.argv[1] == "grpc" else over_rest
print(json.dumps(asyncio.run(run(sys.argv[2], images))))
