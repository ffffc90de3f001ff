"""A model and what its requests and replies need."""

from typing import NamedTuple

from mlpserve_server.codecs.model_infer import InferDecoder
from mlpserve_server.codecs.predict import Decoder, Encoder
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.drift import DriftWindow


class Served(NamedTuple):
    """What answers calls.

    Attributes:
        model: has proven itself.
        decoders: one for each of METHODS.
        encoder: of replies.
        drift: what it has been asked; None where its artifact has nothing to compare that with.
    """

    model: LoadedModel
    decoders: tuple[Decoder | InferDecoder, ...]
    encoder: Encoder
    drift: DriftWindow | None


def prepare(model: LoadedModel, max_request: int) -> Served:
    """Make what a model's requests and replies need; a request may have `max_request` images."""
    decoders = (Decoder(model, max_request), InferDecoder(model, max_request))
    reference = model.version.manifest.reference
    drift = DriftWindow(reference, model.pixels) if reference.images else None
    return Served(model, decoders, Encoder(model), drift)
