"""The images of a data set that the served model finds hardest."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.errors import InvalidInputError, ModelChangedError
from mlpserve_client.pictures import MOST_PIXELS
from mlpserve_client.playground.answers import Answers, picture_of
from mlpserve_client.scoring.inputs import Form, open_inputs
from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_client.scoring.inputs.meaning import Meaning

MOST_IMAGES = 20_000  # of the data set that are read
SHOWN = 30


class Gallery:
    """A labelled data set, and its hardest images by the model that serves.

    Args:
        images: what `mlpserve score` reads: IDX, .npy, .npz, Parquet, pictures.
        labels: true class ids, IDX or .npy; None: none are known, and the least certain answers count as hardest.
        max_pixels: width times height of the largest picture that is decoded.
    """

    def __init__(self, images: str, labels: Path | None, max_pixels: int = MOST_PIXELS) -> None:
        self._path = images
        self._max_pixels = max_pixels
        self._reading = asyncio.Lock()
        self._labels_path = labels
        self._images: npt.NDArray[np.uint8] | None = None
        self._targets: npt.NDArray[np.int64] | None = None
        self._digest = ""
        self._hardest: dict[str, Any] = {}

    async def hardest(self, answers: Answers) -> dict[str, Any]:
        """The hardest images; asked for again when another version serves.

        Raises:
            MlpserveError: the data set cannot be read, or the server does not answer.
        """
        client = answers.client(answers.endpoint.version)
        info = await client.get_model()
        if info.model.digest == self._digest:
            return self._hardest
        async with self._reading:
            if self._images is None:
                await asyncio.to_thread(self._read, info)
        assert self._images is not None
        answer = await client.predict(self._images, probabilities=True, timeout=60)
        assert answer.probabilities is not None
        if answer.model.digest != info.model.digest:  # the true classes were held against other labels
            raise ModelChangedError("another version took over while the images were asked for; look again")
        targets = self._targets
        rows = np.arange(len(self._images))
        sure = answer.probabilities[rows, answer.class_ids if targets is None else targets]
        order = np.argsort(sure, kind="stable")[:SHOWN]
        shape = (info.manifest.image.rows, info.manifest.image.cols)
        self._hardest = {
            "images": len(self._images),
            "wrong": None if targets is None else int((answer.class_ids != targets).sum()),
            "version": answer.model.version,
            "items": [
                {
                    "row": int(row),
                    "pixels": picture_of(self._images[row].reshape(shape)),
                    "target": None if targets is None else int(targets[row]),
                    "answer": int(answer.class_ids[row]),
                    "score": float(answer.scores[row]),
                }
                for row in order
            ],
        }
        self._digest = info.model.digest
        return self._hardest

    def _read(self, info: GetModelResponse) -> None:
        image = info.manifest.image
        raw = image.preparation != Preparation.PREPARATION_CENTRED_INK
        (source,) = open_inputs([self._path], Form(image.rows, image.cols, raw, max_pixels=self._max_pixels))[:1]
        try:
            count = min(source.rows, MOST_IMAGES)
            decoded = [chunk.decode() for chunk in source.read(0, count, 4096)]
        finally:
            source.close()
        if any(part.errors for part in decoded):
            raise InvalidInputError(f"{self._path}: some images cannot be read; mlpserve score names them")
        images = np.concatenate([part.images for part in decoded])
        targets = None
        if self._labels_path is not None:
            values = read_labels(self._labels_path, source.rows)[:count]
            targets = Meaning(info.manifest.labels).ids(values, str(self._labels_path))
        self._images, self._targets = images, targets
