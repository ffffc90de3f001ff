"""A web service that classifies uploaded pictures.

    pip install '.[images]' fastapi python-multipart uvicorn
    MLPSERVE_SERVER=127.0.0.1:50051 uvicorn web_service:app --app-dir examples --port 8080
    curl -F file=@photo.png http://127.0.0.1:8080/classify

One `AsyncClient` for the whole process: it coalesces the concurrent calls of all requests into few gRPC requests.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, UploadFile
from pydantic import BaseModel

from mlpserve_client import (
    AsyncClient,
    DeadlineExceededError,
    InvalidInputError,
    MlpserveError,
    OverloadedError,
    UnavailableError,
)

TIMEOUT = 2.0  # seconds for a prediction with its retries


class Classification(BaseModel):
    """Body of a successful response."""

    label: str
    score: float
    model_version: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the connection when the service starts and close it when it stops."""
    async with AsyncClient(os.environ.get("MLPSERVE_SERVER", "127.0.0.1:50051"), timeout=TIMEOUT) as client:
        app.state.client = client
        yield


app = FastAPI(title="Classify pictures", lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request, file: UploadFile) -> Classification:
    """Classify one uploaded picture."""
    client: AsyncClient = request.app.state.client
    try:
        answer = await client.predict(await file.read())
        best = answer[0]
    except InvalidInputError as error:
        raise HTTPException(422, str(error)) from error
    except (OverloadedError, UnavailableError) as error:
        raise HTTPException(503, "the classifier is busy; try again", {"Retry-After": "1"}) from error
    except DeadlineExceededError as error:
        raise HTTPException(504, f"no answer within {TIMEOUT:g} s") from error
    except MlpserveError as error:
        raise HTTPException(502, str(error)) from error
    return Classification(label=best.label, score=best.score, model_version=answer.model.version)
