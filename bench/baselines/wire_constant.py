"""The compiled transport with nothing behind it: one constant answer, of the size of a real one.

python bench/baselines/wire_constant.py REPLY_FILE PORT
"""

import sys
from pathlib import Path

import numpy as np

from mlpserve.v1.classifier_pb2 import PredictRequest
from mlpserve_wire import Kind, Limits, Method, PlainFormat, Wire, WireCall, listening_socket

PREDICT, PIXELS = "/mlpserve.v1.ClassifierService/Predict", 784


def main() -> None:
    reply = Path(sys.argv[1]).read_bytes()
    row = np.frombuffer(reply, np.uint8)
    wire = Wire(Limits(), [Method(PREDICT, Kind.HOT, 4 << 20)], telling=(), takeover=0.0002)
    prefix = PredictRequest(images=bytes(PIXELS)).SerializeToString()[:-PIXELS]
    wire.set_plain([PlainFormat(0, prefix, PIXELS)])
    wire.listen(listening_socket(f"127.0.0.1:{sys.argv[2]}", share_port=False).detach())
    wire.start()
    rows = np.tile(row, (4096, 1))
    while True:
        arrived = wire.receive(0.1)
        for item in arrived.items:
            if isinstance(item, WireCall):
                wire.send([(item.number, reply)])
                continue
            for start in range(0, len(item.numbers), len(rows)):
                numbers = item.numbers[start : start + len(rows)]
                wire.send_rows(numbers, rows[: len(numbers)])


if __name__ == "__main__":
    main()
