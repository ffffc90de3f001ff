"""The HTTP API of the playground.

    GET  /                   the page
    GET  /api/model          the served version, and the other versions
    POST /api/predict        a picture file, or ?raw=1 and rows × cols bytes; ?versions=0,2 to compare versions
    GET  /api/gallery        the hardest images of the data set
    POST /api/burst          ?requests=2000&inFlight=64 and rows × cols bytes: one line of JSON per point in time;
                             &job=1 runs a scoring job beside it

Errors are JSON, {"error": {"message": …, "kind": …}}, with a matching status.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mlpserve.numbers import is_whole
from mlpserve_client.errors import (
    DeadlineExceededError,
    InvalidInputError,
    InvalidResponseError,
    MlpserveError,
    ModelNotFoundError,
    OverloadedError,
    UnauthenticatedError,
)
from mlpserve_client.playground import burst
from mlpserve_client.playground.answers import Answers, picture_of
from mlpserve_client.playground.gallery import Gallery
from mlpserve_client.playground.job import Job

STATIC = Path(__file__).parent / "static"
LARGEST_UPLOAD = 20 << 20  # bytes
MOST_VERSIONS = 8  # side by side
# No external resources, and no framing by other sites.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
STATUS = {
    InvalidInputError: 400,
    UnauthenticatedError: 502,
    InvalidResponseError: 502,
    ModelNotFoundError: 404,
    OverloadedError: 429,
    DeadlineExceededError: 504,
}
Handler = Callable[[Request], Awaitable[Response]]


def create_app(answers: Answers, gallery: Gallery | None, hosts: list[str]) -> Starlette:
    """The playground as an ASGI application.

    Args:
        answers: calls the server.
        gallery: images to show, or None.
        hosts: allowed host names, against DNS rebinding by other pages' scripts.
    """
    bursting = asyncio.Lock()

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    async def model(_: Request) -> Response:
        return JSONResponse(await answers.model())

    async def predict(request: Request) -> Response:
        versions = _versions(request)
        image = await _image(request, answers)
        found = await asyncio.gather(*(answers.ask(image, version) for version in versions))
        rows, cols = image.shape
        return JSONResponse({"pixels": picture_of(image), "rows": rows, "cols": cols, "answers": found})

    async def hardest(_: Request) -> Response:
        return JSONResponse(await gallery.hardest(answers) if gallery is not None else {"items": []})

    async def load(request: Request) -> Response:
        requests, in_flight = _number(request, "requests"), _number(request, "inFlight")
        burst.check(requests, in_flight)
        image = await _image(request, answers)
        if bursting.locked():
            raise InvalidInputError("a burst is already running; wait until it ends")

        info = await answers.info(answers.endpoint.version)
        with_job = request.query_params.get("job", "0") not in ("", "0")

        async def lines() -> AsyncIterator[str]:
            async with bursting, AsyncExitStack() as stack:
                client, job = answers.client(answers.endpoint.version), None
                if with_job:
                    most = info.serving.max_request_images
                    job = await stack.enter_async_context(Job(answers.endpoint, image, most, burst.TIMEOUT))
                async for point in burst.burst(client, image, requests, in_flight, job):
                    yield json.dumps(point) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await answers.close()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/model", _guarded(model)),
            Route("/api/predict", _guarded(predict), methods=["POST"]),
            Route("/api/gallery", _guarded(hardest)),
            Route("/api/burst", _guarded(load), methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        lifespan=lifespan,
    )


def _guarded(handler: Handler) -> Handler:
    """Turn the client's errors into JSON, and refuse cross-origin requests."""

    async def guarded(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and origin.split("://")[-1] != request.headers.get("host"):
            return _error(403, "CrossOrigin", "this request comes from another site; open the playground itself")
        try:
            response = await handler(request)
        except MlpserveError as error:
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)
            return _error(status, type(error).__name__.removesuffix("Error"), str(error))
        response.headers["Cache-Control"] = "no-store"
        return response

    return guarded


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": message}}, status)


async def _image(request: Request, answers: Answers) -> npt.NDArray[np.uint8]:
    """The picture in a request's body, prepared for the model."""
    body = await _body(request)
    if not request.query_params.get("raw"):
        return await answers.prepare(body)
    spec = (await answers.info(answers.endpoint.version)).manifest.image
    rows, cols = spec.rows, spec.cols
    if len(body) != rows * cols:
        raise InvalidInputError(f"{len(body)} bytes; expected {rows}x{cols} pixels of one byte")
    return np.frombuffer(body, np.uint8).reshape(rows, cols)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_UPLOAD:
            raise InvalidInputError(f"the file is larger than {LARGEST_UPLOAD >> 20} MB; send a smaller picture")
    return bytes(body)


def _versions(request: Request) -> list[int]:
    text = request.query_params.get("versions", "0")
    parts = text.split(",")
    if not all(is_whole(part) for part in parts) or len(parts) > MOST_VERSIONS:
        raise InvalidInputError(
            f"versions={text[:40]}; expected up to {MOST_VERSIONS} version numbers, 0 for the served"
        )
    return [int(part) for part in parts]


def _number(request: Request, name: str) -> int:
    text: Any = request.query_params.get(name, "")
    if not is_whole(text):
        raise InvalidInputError(f"{name}={text[:40]}; expected a whole number")
    return int(text)
