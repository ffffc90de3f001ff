"""Run in a peer's own environment: the Open Inference Protocol's messages, of which ours knows nothing.

python oip.py body < PIXELS > REQUEST          the request message for N × 784 pixels
python oip.py classes < REPLY                  the class ids of a reply message, as JSON
"""

import json
import struct
import sys

import numpy as np
from mlserver.grpc import dataplane_pb2 as pb

if sys.argv[1] == "body":
    pixels = sys.stdin.buffer.read()
    tensor = pb.ModelInferRequest.InferInputTensor(name="images", datatype="BYTES", shape=[1])
    request = pb.ModelInferRequest(model_name="mnist", inputs=[tensor])
    request.raw_input_contents.append(struct.pack("<I", len(pixels)) + pixels)
    sys.stdout.buffer.write(request.SerializeToString())
else:
    response = pb.ModelInferResponse.FromString(sys.stdin.buffer.read())
    if response.raw_output_contents:
        values = np.frombuffer(response.raw_output_contents[0], np.float32)
    else:
        values = np.array(response.outputs[0].contents.fp32_contents)
    print(json.dumps(values.reshape(response.outputs[0].shape).argmax(axis=1).tolist()))
