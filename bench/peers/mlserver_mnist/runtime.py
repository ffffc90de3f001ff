"""An MLServer runtime. The pixels come as one BYTES element: MLServer unpacks UINT8 tensors into Python lists."""

import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Classifier(MLModel):
    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        data = payload.inputs[0].data.root
        images = np.frombuffer(data[0] if isinstance(data, list) else data, np.uint8).reshape(-1, 784)
        probabilities = self.session.run(["probabilities"], {"images": images})[0]
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
