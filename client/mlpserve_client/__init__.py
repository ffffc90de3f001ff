"""The mlpserve client: pictures or arrays in, classes out.

from mlpserve_client import Client

with Client("127.0.0.1:50051") as client:
    print(client.predict("photo.png"))  # or PIL images, bytes of a PNG or JPEG, uint8 [N, 28, 28], lists of them
    for prediction in client.predict(images):
        print(prediction.label, prediction.score)
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
from mlpserve_client.messages.predictions import ModelId, Prediction, Predictions

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
    "Prediction",
    "Predictions",
    "ServerError",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
]
