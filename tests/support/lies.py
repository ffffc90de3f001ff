"""Changes to an answer that make a lie of it, for `Liar.lie`."""

from collections.abc import Callable

import numpy as np

from mlpserve.v1.packed_pb2 import PackedPredictResponse

IMAGES = np.random.default_rng(5).integers(0, 256, (120, 2, 2)).astype(np.uint8)


def put(response: PackedPredictResponse, column: str, value: float, kind: str = "<f4", at: int = 1) -> None:
    values = np.frombuffer(getattr(response, column), kind).copy()
    values[at] = value
    setattr(response, column, values.tobytes())


def cut(column: str, count: int) -> Callable[[PackedPredictResponse], None]:
    return lambda response: setattr(response, column, getattr(response, column)[:count])


def double(response: PackedPredictResponse) -> None:
    for column in ("class_ids", "scores", "probabilities"):
        setattr(response, column, 2 * getattr(response, column))


def number(column: str, value: float, kind: str = "<f4") -> Callable[[PackedPredictResponse], None]:
    return lambda response: put(response, column, value, kind)


def other_classes(response: PackedPredictResponse) -> None:
    response.class_ids = ((np.frombuffer(response.class_ids, "<u4") + 1) % 3).astype("<u4").tobytes()
