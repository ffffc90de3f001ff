"""Arrays of images as people store them, read as [N, rows, cols] of grey bytes: trainer and client decide alike.

Legend: N images, D pixels.
"""

import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

LONGEST_HEADER = 65_535  # bytes of an .npy file's header
COLOURS = (3, 4)  # channels: RGB, and RGB with alpha
# ITU-R 601 in 16 bits and rounded, as Pillow turns colour grey.
RED, GREEN, BLUE, HALF = 19_595, 38_470, 7_471, 0x8000
ZERO_OR_ONE = "every pixel is 0 or 1; expected 0 (black) to 255 (white): multiply by 255"

Bytes = npt.NDArray[np.uint8]


class BadArrayError(ValueError):
    """An array's shape or values are no images; the message says what was expected."""


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type of the array whose .npy header the stream begins with.

    Raises:
        ValueError: it begins with something else, or the header is too long to be one.
    """
    version = np.lib.format.read_magic(stream)
    field, read = ("<H", np.lib.format.read_array_header_1_0)
    if version != (1, 0):
        field, read = ("<I", np.lib.format.read_array_header_2_0)
    length = stream.read(struct.calcsize(field))
    count = struct.unpack(field, length)[0]
    if count > LONGEST_HEADER:  # numpy reads it before it looks
        raise ValueError(f"its header says that it is {count:,} bytes long itself")
    shape, fortran, kind = read(io.BytesIO(length + stream.read(count)))
    return shape, fortran, kind


@dataclass(frozen=True)
class Layout:
    """What the axes of one image's array mean.

    Attributes:
        rows, cols: the image's size; rows is 0 for a flat array whose size nobody has given.
        shape: of one image's array.
        channels: which axis of `shape` holds the colours; None for grey.
    """

    rows: int
    cols: int
    shape: tuple[int, ...]
    channels: int | None = None

    def grey(self, images: npt.NDArray[Any]) -> Bytes:
        """Images uint8 [N, *shape] as grey ones [N, rows, cols]."""
        if self.channels is None:
            return np.ascontiguousarray(images.reshape(-1, self.rows, self.cols))
        return to_grey(np.moveaxis(images, self.channels + 1, -1)).reshape(-1, self.rows, self.cols)


def layout(shape: Sequence[int], size: tuple[int, int] | None) -> Layout:
    """What the axes of one image's array are: [rows, cols], flat [D], or with an axis of channels, first or last.

    Axes of one element in front and behind count for nothing.

    Args:
        shape: of one image's array, without N.
        size: (rows, cols), where they are known: they decide what could be read in two ways.

    Raises:
        BadArrayError: it is no image, or could be two different ones.
    """
    whole = tuple(shape)
    found = _layout(whole, size)
    if size is not None and found.channels is None and (found.rows, found.cols) != size:
        flat = found.rows <= 1 or found.cols == 1  # [D], [1, D] or [D, 1]
        if flat and math.prod(whole) == math.prod(size):
            return Layout(*size, whole)
    return found


def _layout(whole: tuple[int, ...], size: tuple[int, int] | None) -> Layout:
    axes = list(enumerate(whole))
    while len(axes) > 3 and axes[0][1] == 1:
        del axes[0]
    while len(axes) > 3 and axes[-1][1] == 1:
        del axes[-1]
    if len(axes) == 1:
        return Layout(0, whole[0], whole)
    if len(axes) == 2:
        return Layout(axes[0][1], axes[1][1], whole)
    if len(axes) != 3:
        raise BadArrayError(f"images of shape {list(whole)}; {_expected(size)}")
    found = []
    for place, rest in ((2, axes[:2]), (0, axes[1:])):
        number, count = axes[place]
        if count == 1 or count in COLOURS:
            found.append(Layout(rest[0][1], rest[1][1], whole, number if count > 1 else None))
    fitting = [one for one in found if (one.rows, one.cols) == size]
    if not found:
        raise BadArrayError(f"images of shape {list(whole)}; {_expected(size)}")
    if len(found) == 1 or fitting:
        return (fitting or found)[0]
    raise BadArrayError(
        f"images of shape {list(whole)} could have their channels first or last; save them as [N, rows, cols]"
    )


def _expected(size: tuple[int, int] | None) -> str:
    rows, cols = map(str, size or ("rows", "cols"))
    return f"expected [N, {rows}, {cols}], or with an axis of 1, 3 or 4 channels, first or last"


def to_grey(colour: npt.NDArray[Any]) -> Bytes:
    """Colour images uint8 [..., 3 or 4] as grey ones; transparent parts become white paper."""
    channels = colour.astype(np.uint32)
    if colour.shape[-1] == 4:
        alpha = channels[..., 3:]
        channels = (channels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    total = channels[..., 0] * RED + channels[..., 1] * GREEN + channels[..., 2] * BLUE + HALF
    return (total >> 16).astype(np.uint8)


def seen(values: npt.NDArray[Any]) -> str:
    """What numbers an array holds, in words, for an error about their range."""
    if values.dtype.kind not in "iufb" or not values.size:
        return f"these are of type {values.dtype}"
    low, high = values.min(), values.max()
    hint = "; multiply by 255 and round" if low >= 0 and high <= 1 else ""
    return f"these are {values.dtype} from {low:g} to {high:g}{hint}"


def row_major(shape: Sequence[int], fortran: bool) -> bool:
    """Whether an array's bytes lie as in C's order."""
    return not fortran or sum(length > 1 for length in shape) <= 1


def is_zero_or_one(images: Bytes) -> npt.NDArray[np.bool_]:
    """Which of the images [N, D] hold nothing above 1, and a 1: their pixels were scaled from 0 to 1 before."""
    values: npt.NDArray[Any] = images
    most: Any = np.uint8(0xFE)
    if images.shape[1] % 8 == 0 and images.flags.c_contiguous:
        values, most = images.view(np.uint64), np.uint64(0xFEFE_FEFE_FEFE_FEFE)  # eight at a time
    result: npt.NDArray[np.bool_] = ~((values & most).any(axis=1))
    result[result] = images[result].any(axis=1)
    return result


@dataclass(frozen=True)
class Tensors:
    """How the values of a column of Arrow's tensors lie.

    Attributes:
        shape: of one tensor as it is stored.
        permutation: stored axes in the order in which they are meant; None: as they are.
    """

    shape: tuple[int, ...]
    permutation: tuple[int, ...] | None

    @property
    def meant(self) -> tuple[int, ...]:
        """The shape that the column's writer gave it."""
        return self.shape if self.permutation is None else tuple(self.shape[axis] for axis in self.permutation)

    def arranged(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values [N, product of the shape] as they are meant: [N, *meant]."""
        tensors = stored.reshape(-1, *self.shape)
        return tensors if self.permutation is None else tensors.transpose(0, *(axis + 1 for axis in self.permutation))


def tensors_of(kind: Any) -> Tensors | None:
    """How a column of this pyarrow type lies, if it is one of fixed-shape tensors; None for every other.

    Raises:
        BadArrayError: tensors whose shapes differ.
    """
    name = getattr(kind, "extension_name", "")
    if name == "arrow.variable_shape_tensor":
        raise BadArrayError("a column of tensors whose shapes differ; save pictures as PNG files in it, or as one size")
    if name != "arrow.fixed_shape_tensor":
        return None
    permutation = getattr(kind, "permutation", None)
    return Tensors(tuple(kind.shape), None if permutation is None else tuple(permutation))
