"""What callers hand to `predict`: arrays, or pictures in any of the forms in which people have them.

Pictures become arrays as `mlpserve predict` prepares them: the way in which the model's training images were made.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture: TypeAlias = Image | bytes | str | os.PathLike[str]
    Input: TypeAlias = npt.ArrayLike | Picture | Sequence[Picture]


def are_pictures(images: "Input") -> bool:
    """Whether `images` is a picture, or a list of them; arrays are not.

    Raises:
        InvalidInputError: a list of both.
    """
    if isinstance(images, np.ndarray):
        return False
    if not isinstance(images, list | tuple):
        return _is_picture(images)
    found = sum(map(_is_picture, images))
    if 0 < found < len(images):
        raise InvalidInputError("a list of arrays and pictures; expected one of the two")
    return found > 0


def prepared(images: "Input", info: GetModelResponse) -> npt.NDArray[np.uint8]:
    """Pictures as uint8 [N, rows, cols].

    Args:
        images: one picture or a list of them: a PIL image, a path, or the content of a file.
        info: of the model that will answer.

    Raises:
        InvalidInputError: one of them is not a readable picture, or Pillow is not installed.
    """
    image = info.manifest.image
    raw = image.preparation != Preparation.PREPARATION_CENTRED_INK
    pictures: Sequence[Any] = images if isinstance(images, list | tuple) else [images]
    return np.stack([_prepared(picture, image.rows, image.cols, raw) for picture in pictures])


def _is_picture(item: object) -> bool:
    # PIL itself is not imported: it need not be installed.
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(item).__mro__)
    return isinstance(item, bytes | str | os.PathLike) or "PIL.Image.Image" in kinds


def _prepared(picture: Any, rows: int, cols: int, raw: bool) -> npt.NDArray[np.uint8]:
    try:
        from mlpserve_client import prepare
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "pictures need Pillow, which is not installed: pip install pillow, or mlpserve with the extra [images]; "
            "arrays, uint8 [N, rows, cols], need nothing"
        ) from error
    if isinstance(picture, bytes):
        return prepare.from_bytes(picture, rows, cols, raw=raw)
    if isinstance(picture, str | os.PathLike):
        return prepare.read_image(Path(picture), rows, cols, raw=raw)
    return prepare.from_image(picture, rows, cols, raw=raw)
