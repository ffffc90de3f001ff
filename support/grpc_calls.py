"""A plain gRPC caller: generated stubs and nothing of our client, so that the server is tested by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from mlpserve.v1.classifier_pb2 import GetModelRequest, PredictRequest
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from support.waiting import wait_until

PREDICT = "/mlpserve.v1.ClassifierService/Predict"


@contextmanager
def channel(address: str) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=options) as opened:
        yield opened


@contextmanager
def stub(address: str) -> Iterator[ClassifierServiceStub]:
    with channel(address) as opened:
        yield ClassifierServiceStub(opened)


def pixels(images: npt.NDArray[np.uint8]) -> bytes:
    return np.ascontiguousarray(images).tobytes()


def call_until_refused(caller: ClassifierServiceStub, request: PredictRequest, outcomes: list[grpc.StatusCode]) -> None:
    """Predict again and again until a call fails; every call's code is appended."""
    while True:
        try:
            caller.Predict(request, timeout=20)
            outcomes.append(grpc.StatusCode.OK)
        except grpc.RpcError as error:
            outcomes.append(error.code())
            return


def wait_for_version(caller: ClassifierServiceStub, number: int, seconds: float = 60) -> None:
    """Wait until a server says that this version answers."""
    wait_until(
        lambda: caller.GetModel(GetModelRequest(), timeout=10).model.version == number,
        lambda: f"version {number} answers; it is {caller.GetModel(GetModelRequest(), timeout=10).model.version}",
        seconds,
    )


def details(error: grpc.RpcError) -> list[Message]:
    """The google.rpc details of a failed call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            assert status.code == error.code().value[0]
            kinds: list[type[Message]] = [BadRequest, RetryInfo]
            return [
                kind.FromString(any_.value) for any_ in status.details for kind in kinds if any_.Is(kind.DESCRIPTOR)
            ]
    return []


def predict_code(caller: ClassifierServiceStub, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """The code of a call of Predict with metadata; a refusal must not name the model."""
    try:
        caller.Predict(PredictRequest(images=bytes(784)), timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        assert "mnist" not in (error.details() or "")
        return code
    return grpc.StatusCode.OK
