"""One value of a table as an image: raw pixels as bytes or numbers, in rows or tensors, or an encoded picture."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlpserve.files.arrays import ZERO_OR_ONE, BadArrayError, layout, seen, tensors_of
from mlpserve.files.kinds import ENCODED_SIGNATURES
from mlpserve_client.errors import InvalidInputError
from mlpserve_client.pictures import NotAPictureError, TooLargeError
from mlpserve_client.prepare import Prepared, prepare
from mlpserve_client.scoring.errors import BadRow, ScoringError
from mlpserve_client.scoring.inputs.rows import Form, Images

MOST_NUMBERS = 4  # times the model's pixels that a list may have to be looked at
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


class Column:
    """Values of a column of images.

    Args:
        values: a pyarrow array [N].
        form: what images must be.

    Raises:
        ScoringError: no value of this type is an image.
    """

    def __init__(self, values: Any, form: Form) -> None:
        self._form = form
        try:
            self._tensors = tensors_of(values.type)
        except BadArrayError as error:
            raise ScoringError(f"the images are {error}") from error
        self._values = values.storage if isinstance(values, pa.ExtensionArray) else values
        if pa.types.is_dictionary(self._values.type):
            self._values = self._values.dictionary_decode()

    def plain(self) -> Images | None:
        """All of them as pixels [N, D], where every value is raw pixels; None if there is anything else."""
        if self._tensors is None:
            return _plain_pixels(self._values, self._form.pixels)
        flat = self._values.flatten()
        if self._values.null_count or flat.type != pa.uint8() or flat.null_count or not len(self._values):
            return None
        tensors = self._tensors.arranged(flat.to_numpy())
        try:
            return self._laid_out(tensors).reshape(-1, self._form.pixels)
        except BadRow:
            return None

    def prepared(self, row: int) -> Prepared:
        """One of them in the model's form.

        Raises:
            BadRow: it is no image.
        """
        value = _python(self._values[row], self._form)
        if self._tensors is not None and value is not None:
            try:
                value = self._tensors.arranged(np.asarray(value))[0]
            except (TypeError, ValueError) as error:
                raise BadRow("not an image", f"not a tensor of {list(self._tensors.shape)} numbers") from error
        return self._from_value(value)

    def _from_value(self, value: Any) -> Prepared:
        form = self._form
        if isinstance(value, dict):  # {"bytes": …, "path": …}, as the datasets library writes pictures
            value = value.get("bytes")
        if value is None:
            raise BadRow("no image", "the image is null")
        if isinstance(value, bytes):
            if len(value) == form.pixels and not value.startswith(ENCODED_SIGNATURES):
                return _not_scaled(np.frombuffer(value, np.uint8))
            return picture(value, form)
        try:
            numbers = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise BadRow("not an image", f"a {type(value).__name__} is not an image") from error
        if not np.all((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))):
            raise BadRow("wrong values", f"pixels are not all whole numbers from 0 to 255: {seen(numbers)}")
        return _not_scaled(self._laid_out(numbers.astype(np.uint8)[None]).ravel())

    def _laid_out(self, images: npt.NDArray[Any]) -> Images:
        """Images [N, …] as grey ones of the model's size [N, rows, cols]."""
        form = self._form
        try:
            found = layout(images.shape[1:], (form.rows, form.cols))
        except BadArrayError as error:
            raise BadRow("wrong size", str(error)) from error
        if (found.rows, found.cols) != (form.rows, form.cols):
            size = f"{found.rows}x{found.cols}" if found.rows else f"{found.cols} pixels"
            raise BadRow("wrong size", f"{size}; the model takes {form.rows}x{form.cols}")
        return found.grey(images)


def _not_scaled(pixels: Images) -> Prepared:
    if pixels.max(initial=0) == 1:
        raise BadRow("wrong values", ZERO_OR_ONE)
    return Prepared(pixels, several=False)


def _plain_pixels(values: Any, pixels: int) -> Images | None:
    """A column whose every value is raw pixels, without a copy; None if it is anything else."""
    if values.null_count or len(values) == 0:
        return None
    if pa.types.is_fixed_size_binary(values.type) and values.type.byte_width == pixels:
        data = np.frombuffer(values.buffers()[1], np.uint8, len(values) * pixels, values.offset * pixels)
    elif pa.types.is_fixed_size_list(values.type) and values.type.list_size == pixels:
        flat = values.flatten()
        if flat.type != pa.uint8() or flat.null_count:
            return None
        data = flat.to_numpy()
    elif pa.types.is_binary(values.type):
        offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4)
        if not (np.diff(offsets) == pixels).all():
            return None
        data = np.frombuffer(values.buffers()[2], np.uint8, len(values) * pixels, int(offsets[0]))
    else:
        return None
    images: Images = data.reshape(len(values), pixels)
    # A picture file may happen to be as long as an image.
    signs = [np.frombuffer(sign, np.uint8) for sign in ENCODED_SIGNATURES if len(sign) <= pixels]
    if any((images[:, : len(sign)] == sign).all(axis=1).any() for sign in signs):
        return None
    return images


def _python(scalar: Any, form: Form) -> Any:
    try:
        flat = scalar.values if isinstance(scalar, pa.ListScalar) else None
        while flat is not None and isinstance(flat.type, LISTS):
            flat = flat.flatten()
        if flat is not None and len(flat) > MOST_NUMBERS * form.pixels:  # a number of Python's takes 32 bytes
            raise BadRow("wrong size", f"{len(flat):,} pixels; the model takes {form.rows}x{form.cols}")
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise BadRow("not an image", f"the value cannot be read ({error})") from error


def picture(content: bytes, form: Form) -> Prepared:
    """An encoded picture in the model's form.

    Raises:
        BadRow: it is no readable picture.
    """
    try:
        return prepare(content, form.rows, form.cols, raw=form.raw, max_pixels=form.max_pixels)
    except TooLargeError as error:
        raise BadRow("too large", str(error)) from error
    except NotAPictureError as error:
        message = f"{len(content)} bytes are neither {form.pixels} pixels nor a readable picture"
        raise BadRow("not a picture", f"{message}: {error}") from error
    except InvalidInputError as error:
        raise BadRow("nothing to see", str(error)) from error
