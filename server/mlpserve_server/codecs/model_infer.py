"""ModelInfer of the Open Inference Protocol (v2), on the path of Predict.

A client sends the same header before the pixels again and again, so a header that was parsed and checked once is kept,
and later requests of the same length that begin with it are only cut.

Legend: N images, D pixels, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from mlpserve.shown import shown
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.classifier_pb2 import Timing
from mlpserve_server.calls import BATCH, INTERACTIVE
from mlpserve_server.codecs.base import Plain, Request
from mlpserve_server.codecs.known_headers import KnownHeaders
from mlpserve_server.codecs.naming import check_model, version_number
from mlpserve_server.codecs.protobuf import field, fill, split
from mlpserve_server.errors import InvalidRequest
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.models.runners import Predictions

INPUT = "images"
PRIORITY = "priority"
OUTPUTS = {"class_ids": "INT32", "scores": "FP32", "probabilities": "FP32"}
TYPES = {
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
# Which field of InferTensorContents holds a datatype; FP16 travels raw only.
CONTENTS = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{"INT64": "int64_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"},
}
RAW_OUTPUT_TAG = b"\x32"  # of ModelInferResponse: field 6, length-delimited
MOST_SHOWN = 8  # of a caller's names in an error
MOST_PLAIN = 16  # headers of single images with which the transport compares each request


class Form(NamedTuple):
    """How a request wants its answer.

    Attributes:
        head: the reply up to the outputs' values.
        outputs: names of the outputs, in order.
        typed: the values go into `contents` rather than behind the head.
    """

    head: bytes
    outputs: tuple[str, ...]
    typed: bool


class ModelInferCodec:
    """ModelInfer for one model; see `Codec`.

    Args:
        model: that answers.
        max_request: most images in one request.
    """

    def __init__(self, model: LoadedModel, max_request: int) -> None:
        self._model = model
        self._max_request = max_request
        self._known = KnownHeaders[tuple[int, Form, int | None]]()  # N, form, traffic
        self._singles: dict[bytes, Plain[Form]] = {}  # replaced as a whole

    def decode(self, payload: bytes) -> Request[Form]:  # noqa: D102
        known = self._known.find(payload)
        if known is None:
            return self._decode_message(payload)
        header, (count, form, traffic) = known
        if count == 1 and header not in self._singles:
            newest = [*self._singles.items()][1 - MOST_PLAIN :]
            self._singles = {**dict(newest), header: Plain(form, traffic)}
        return Request(memoryview(payload)[len(header) :], count, form, traffic)

    def _decode_message(self, payload: bytes) -> Request[Form]:
        try:
            request = oip.ModelInferRequest.FromString(payload)
        except DecodeError as error:
            raise InvalidRequest("", "the message is not an inference.ModelInferRequest") from error
        check_model(request.model_name, version_number(request.model_version), self._model)
        if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
            names = ", ".join(shown(tensor.name, 64) for tensor in request.inputs[:MOST_SHOWN]) or "none"
            more = len(request.inputs) - MOST_SHOWN
            names += f" and {more:,} more" if more > 0 else ""
            raise InvalidRequest("inputs", f"expected one input, {INPUT!r}; got {names}")
        tensor = request.inputs[0]
        count = self._count(tensor)
        images = self._images(request, tensor, count)
        form, traffic = self._form(request, count), _traffic(request)
        raw = request.raw_input_contents[0] if request.raw_input_contents else b""
        plain = tensor.datatype == "UINT8" and raw and payload.endswith(raw) and not request.id
        if plain:
            self._known.keep(payload[: -len(raw)], len(payload), (count, form, traffic))
        return Request(images, count, form, traffic)

    def _count(self, tensor: oip.ModelInferRequest.InferInputTensor) -> int:
        """N, from a shape [N, D], [N, rows, cols] or [N, 1, rows, cols]."""
        image = self._model.version.manifest.image
        shape = tuple(tensor.shape)
        size = (image.rows, image.cols)
        if len(shape) < 2 or shape[1:] not in ((self._model.pixels,), size, (1, *size)):
            expected = f"[N, {self._model.pixels}] or [N, {image.rows}, {image.cols}]"
            raise InvalidRequest("inputs", f"{INPUT!r} has shape {list(shape[:8])}; expected {expected}")
        count: int = shape[0]
        if not 1 <= count <= self._max_request:
            message = f"{count} images in one request; this server takes 1 to {self._max_request}"
            raise InvalidRequest("inputs", message)
        return count

    def _images(
        self, request: oip.ModelInferRequest, tensor: oip.ModelInferRequest.InferInputTensor, count: int
    ) -> bytes:
        """The pixels as bytes, whatever type they came in, if that loses nothing."""
        kind = TYPES.get(tensor.datatype)
        if kind is None:
            raise InvalidRequest(
                "inputs", f"{INPUT!r} has datatype {tensor.datatype[:16]!r}; expected UINT8, raw pixels from 0 to 255"
            )
        _refuse_shared_memory("inputs", tensor.parameters)
        raw, values = list(request.raw_input_contents), count * self._model.pixels
        if raw:
            if len(raw) != 1 or tensor.HasField("contents"):
                raise InvalidRequest("raw_input_contents", "expected one entry, and no contents beside it")
            if len(raw[0]) != values * kind.itemsize:
                message = f"{len(raw[0])} bytes; {count} images of {tensor.datatype} are {values * kind.itemsize}"
                raise InvalidRequest("raw_input_contents", message)
            if tensor.datatype == "UINT8":
                return raw[0]
            numbers: npt.NDArray[np.generic] = np.frombuffer(raw[0], kind)
        else:
            name = CONTENTS.get(tensor.datatype)
            if name is None:
                raise InvalidRequest("inputs", f"{tensor.datatype} has no typed contents; send raw_input_contents")
            numbers = np.array(getattr(tensor.contents, name))
            if len(numbers) != values:
                message = f"{len(numbers)} values in contents.{name}; {count} images have {values}"
                raise InvalidRequest("inputs", message)
        pixels = numbers.astype(np.float64)
        if not np.all((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels))):
            raise InvalidRequest("inputs", "pixels must be whole numbers from 0 to 255, not normalised")
        if pixels.max() == 1:  # a black-and-white image that was divided by 255
            raise InvalidRequest("inputs", "all pixels are 0 or 1; they must be 0 to 255, not normalised")
        return pixels.astype(np.uint8).tobytes()

    def _form(self, request: oip.ModelInferRequest, count: int) -> Form:
        names = tuple(output.name for output in request.outputs) or tuple(OUTPUTS)
        for name in names:
            if name not in OUTPUTS or names.count(name) > 1:
                raise InvalidRequest("outputs", f"{name[:64]!r} is unknown or doubled; there are {', '.join(OUTPUTS)}")
        for output in request.outputs:
            _refuse_shared_memory("outputs", output.parameters)
            if "classification" in output.parameters:
                message = "class_count is not supported here; ask for the output probabilities, and sort them"
                raise InvalidRequest("outputs", message)
            if output.parameters:
                raise InvalidRequest("outputs", "outputs have no parameters here")
        ref = self._model.ref
        head = oip.ModelInferResponse(model_name=ref.name, model_version=str(ref.version), id=request.id)
        for name in names:
            shape = [count, self._model.classes] if name == "probabilities" else [count]
            head.outputs.add(name=name, datatype=OUTPUTS[name], shape=shape)
        return Form(head.SerializeToString(), names, typed=not request.raw_input_contents)

    def plain(self) -> Mapping[bytes, Plain[Form]]:  # noqa: D102
        return self._singles

    def encode_rows(self, form: Form, predictions: Predictions) -> npt.NDArray[np.uint8]:  # noqa: D102
        count = len(predictions.class_ids)
        template, gaps = bytearray(form.head), {}
        for name in form.outputs:
            column = getattr(predictions, name).view(np.uint8).reshape(count, -1)
            template += field(RAW_OUTPUT_TAG, bytes(column.shape[1]))
            gaps[len(template) - column.shape[1]] = column
        return fill(np.frombuffer(template, np.uint8), gaps, count)

    def encode(  # noqa: D102
        self, requests: Sequence[Request[Form]], predictions: Predictions, timing: Callable[[int], Timing]
    ) -> list[bytes]:
        form, count = requests[0].form, len(requests)
        same = count > 1 and len(predictions.class_ids) == count and all(request.form is form for request in requests)
        if same and not form.typed:
            return split(self.encode_rows(form, predictions))
        replies, stop = [], 0
        for request in requests:
            start, stop = stop, stop + request.size
            replies.append(_encode_one(request.form, predictions, start, stop))
        return replies


def _refuse_shared_memory(field_name: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    if any(name.startswith("shared_memory_") for name in parameters):
        raise InvalidRequest(
            field_name, "shared memory is not supported here; send and receive the values in the messages themselves"
        )


def _traffic(request: oip.ModelInferRequest) -> int | None:
    """The traffic that Triton's parameter `priority` stands for: 1 is the highest, 0 or none the server's choice."""
    if PRIORITY not in request.parameters:
        return None
    parameter = request.parameters[PRIORITY]
    kind = parameter.WhichOneof("parameter_choice")
    priority = getattr(parameter, kind) if kind in ("uint64_param", "int64_param") else -1
    if priority < 0:
        message = f"{PRIORITY} must be a whole number: 1 for interactive, 2 and more for batch, 0 for neither"
        raise InvalidRequest("parameters", message)
    return None if priority == 0 else INTERACTIVE if priority == 1 else BATCH


def _encode_one(form: Form, predictions: Predictions, start: int, stop: int) -> bytes:
    """The reply for rows start to stop."""
    columns = [getattr(predictions, name)[start:stop] for name in form.outputs]
    if not form.typed:
        return form.head + b"".join([field(RAW_OUTPUT_TAG, column.tobytes()) for column in columns])
    response = oip.ModelInferResponse.FromString(form.head)
    for output, column in zip(response.outputs, columns, strict=True):
        getattr(output.contents, CONTENTS[output.datatype]).extend(column.ravel().tolist())
    return response.SerializeToString()
