"""The mlpserve client: arrays in, classes out.

from mlpserve_client import Client

with Client("127.0.0.1:50051") as client:
    answer = client.predict(images)  # uint8 [N, 28, 28]
    print(answer.class_ids, answer.scores, answer.model.version)
"""

from mlpserve_client.aio import AsyncClient
from mlpserve_client.client import Client
from mlpserve_client.connection.endpoint import Endpoint, Tls
from mlpserve_client.errors import (
    ClientClosedError,
    DeadlineExceededError,
    InvalidInputError,
    InvalidRequestError,
    InvalidResponseError,
    MessageTooLargeError,
    MlpserveError,
    ModelChangedError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
)
from mlpserve_client.messages.predictions import ModelId, Predictions

__all__ = [
    "AsyncClient",
    "Client",
    "ClientClosedError",
    "DeadlineExceededError",
    "Endpoint",
    "InvalidInputError",
    "InvalidRequestError",
    "InvalidResponseError",
    "MessageTooLargeError",
    "MlpserveError",
    "ModelChangedError",
    "ModelId",
    "ModelNotFoundError",
    "OverloadedError",
    "Predictions",
    "ServerError",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
]
