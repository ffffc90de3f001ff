"""A web service that classifies uploaded pictures.

    pip install '.[images]' fastapi python-multipart uvicorn
    MLPSERVE_SERVER=127.0.0.1:50051 uvicorn web_service:app --app-dir examples --port 8080
    curl -F file=@photo.png http://127.0.0.1:8080/classify

One `AsyncClient` for the whole process: it coalesces the concurrent calls of all requests into few gRPC requests.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, UploadFile
from pydantic import BaseModel

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client import (
    AsyncClient,
    DeadlineExceededError,
    InvalidInputError,
    MlpserveError,
    ModelId,
    OverloadedError,
    UnavailableError,
)
from mlpserve_client.prepare import from_bytes

TIMEOUT = 2.0  # seconds for a prediction with its retries


class Classification(BaseModel):
    """Body of a successful response."""

    label: str
    score: float
    model_version: int


class Classifier:
    """Calls mlpserve, and remembers how it describes its model.

    Args:
        target: address of the server.
    """

    def __init__(self, target: str) -> None:
        self.client = AsyncClient(target, timeout=TIMEOUT)
        self._info: GetModelResponse | None = None

    async def classify(self, picture: bytes) -> Classification:
        """Classify a picture file.

        Raises:
            MlpserveError: it is not a picture, or the server cannot answer.
        """
        info = self._info or await self._refresh()
        image = info.manifest.image
        raw = image.preparation != Preparation.PREPARATION_CENTRED_INK
        pixels = await asyncio.to_thread(from_bytes, picture, image.rows, image.cols, raw=raw)
        answer = await self.client.predict(pixels)
        labels = await self._labels(answer.model)
        return Classification(
            label=labels[int(answer.class_ids[0])],
            score=float(answer.scores[0]),
            model_version=answer.model.version,
        )

    async def _labels(self, model: ModelId) -> list[str]:
        """Class names of the version that answered; after a hot reload it is not the one described before."""
        if self._info is None or self._info.model.digest != model.digest:
            await self._refresh()
        assert self._info is not None
        return list(self._info.manifest.labels)

    async def _refresh(self) -> GetModelResponse:
        self._info = await self.client.get_model()
        return self._info


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the connection when the service starts and close it when it stops."""
    app.state.classifier = Classifier(os.environ.get("MLPSERVE_SERVER", "127.0.0.1:50051"))
    async with app.state.classifier.client:
        yield


app = FastAPI(title="Classify pictures", lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request, file: UploadFile) -> Classification:
    """Classify one uploaded picture."""
    classifier: Classifier = request.app.state.classifier
    try:
        return await classifier.classify(await file.read())
    except InvalidInputError as error:
        raise HTTPException(422, str(error)) from error
    except (OverloadedError, UnavailableError) as error:
        raise HTTPException(503, "the classifier is busy; try again", {"Retry-After": "1"}) from error
    except DeadlineExceededError as error:
        raise HTTPException(504, f"no answer within {TIMEOUT:g} s") from error
    except MlpserveError as error:
        raise HTTPException(502, str(error)) from error
