"""tritonclient.grpc beyond the documented example: see test_clients.py."""

import json
import queue
import sys
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

images = np.frombuffer(Path(sys.argv[2]).read_bytes(), np.uint8).reshape(-1, 784)
client = triton.InferenceServerClient(sys.argv[1])
model = client.get_model_repository_index().models[0].name
found = {}


def tensors(array: np.ndarray) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array)
    return [tensor]


def code(error: InferenceServerException) -> str:
    return error.status().removeprefix("StatusCode.")


large = tensors(np.repeat(images[:1], 4096, axis=0))
answer = client.infer(model, tensors(images), client_timeout=30, compression_algorithm="gzip")
found["answer"] = answer.as_numpy("class_ids").tolist()
try:
    client.infer(model, large, client_timeout=0.02)
except InferenceServerException as error:
    found["deadline"] = code(error)
try:
    client.infer(model, tensors(images[:, :5].copy()), client_timeout=30)
except InferenceServerException as error:
    found["error"] = [code(error), error.message()]
results = queue.SimpleQueue()
call = client.async_infer(model, large, callback=lambda result, error: results.put(error), client_timeout=30)
time.sleep(0.1)
call.cancel()
error = results.get(timeout=30)
found["cancelled"] = "CANCELLED" if "cancel" in str(error).lower() else str(error)

# streams, with an error that does not end them
client.start_stream(callback=lambda result, error: results.put((result, error)))
for number in range(20):
    bad = number == 7
    client.async_stream_infer(model, tensors(images[:, :5].copy() if bad else images), request_id=f"r{number}")
streamed = [results.get(timeout=30) for _ in range(20)]
client.stop_stream()
found["stream"] = [error.message()[:16] if error else result.get_response().id for result, error in streamed]
statistics = client.get_inference_statistics(model).model_stats[0]
found["statistics"] = [statistics.name, statistics.inference_stats.success.count >= 20]
found["config"] = client.get_model_config(model).config.max_batch_size
client.close()
print(json.dumps(found))
