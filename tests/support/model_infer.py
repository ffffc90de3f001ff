"""ModelInfer of the Open Inference Protocol: requests, and the columns of answers."""

import numpy as np

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.codecs.model_infer import CONTENTS, TYPES


def infer(
    images: np.ndarray,  # type: ignore[type-arg]
    *outputs: str,
    datatype: str = "UINT8",
    raw: bool = True,
    **fields: str,
) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(**{"model_name": "mnist", **fields})
    tensor = request.inputs.add(name="images", datatype=datatype, shape=images.shape)
    values = images.astype(TYPES[datatype])
    if raw:
        request.raw_input_contents.append(values.tobytes())
    else:
        getattr(tensor.contents, CONTENTS[datatype]).extend(values.ravel().tolist())
    for name in outputs:
        request.outputs.add(name=name)
    return request


def columns_of(answer: oip.ModelInferResponse) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """The outputs by name, raw or typed."""
    columns = {}
    for index, output in enumerate(answer.outputs):
        if answer.raw_output_contents:
            values = np.frombuffer(answer.raw_output_contents[index], TYPES[output.datatype])
        else:
            values = np.array(getattr(output.contents, CONTENTS[output.datatype]), TYPES[output.datatype])
        columns[output.name] = values.reshape(list(output.shape))
    return columns
