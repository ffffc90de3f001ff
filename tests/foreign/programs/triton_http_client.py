"""tritonclient.http, through the gateway: see tests/deploy/test_rest_clients.py."""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

images = np.frombuffer(Path(sys.argv[2]).read_bytes(), np.uint8).reshape(-1, 784)
client = triton.InferenceServerClient(sys.argv[1])
found = {"ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("mnist")]}
found["metadata"] = [client.get_server_metadata()["name"], client.get_model_metadata("mnist")["inputs"][0]["name"]]
found["absent"] = client.is_model_ready("cifar")


def infer(array: np.ndarray, binary: bool) -> triton.InferResult:
    tensor = triton.InferInput("images", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array, binary_data=binary)
    outputs = [triton.InferRequestedOutput("class_ids", binary_data=binary)]
    return client.infer("mnist", [tensor], outputs=outputs, request_id="r7")


for binary in (False, True):
    answer = infer(images, binary)
    found["binary" if binary else "json"] = [answer.get_response()["id"], answer.as_numpy("class_ids").tolist()]
try:
    infer(images[:, :5].copy(), True)
except InferenceServerException as error:
    found["error"] = [error.status(), error.message()]
client.close()
print(json.dumps(found))
