"""grpcio, synchronous: see test_clients.py."""

import json
import sys
import time
from pathlib import Path

import grpc
from google.rpc import status_pb2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub

address, images = sys.argv[1], Path(sys.argv[2]).read_bytes()
large = pb.PredictRequest(images=images[:784] * 4096)
found = {}
with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
    stub = ClassifierServiceStub(channel)
    found["answer"] = list(stub.Predict(pb.PredictRequest(images=images), timeout=30).class_ids)
    try:
        stub.Predict(large, timeout=0.02)
    except grpc.RpcError as error:
        found["deadline"] = error.code().name
    try:
        stub.Predict(pb.PredictRequest(images=b"x"), timeout=30)
    except grpc.RpcError as error:
        trailing = dict(error.trailing_metadata())
        details = status_pb2.Status.FromString(trailing["grpc-status-details-bin"]).details
        found["error"] = [error.code().name, *(detail.TypeName() for detail in details)]
    call = stub.Predict.future(large, timeout=30)
    time.sleep(0.1)
    call.cancel()
    try:
        call.result()
    except grpc.FutureCancelledError:
        found["cancelled"] = call.code().name
print(json.dumps(found))
