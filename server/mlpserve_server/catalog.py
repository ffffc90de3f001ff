"""Which model answers: the one owner of what serves, what is kept beside it, what is about to be, and what was refused.

The follower and the start tell it; admission, the control services and the metrics ask it.
"""

import threading
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from mlpserve_server.codecs.base import Codec
from mlpserve_server.codecs.model_infer import ModelInferCodec
from mlpserve_server.codecs.naming import check_model, unknown_model
from mlpserve_server.codecs.predict import PredictCodec
from mlpserve_server.errors import NotReady
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.drift import DriftWindow
from mlpserve_server.observe.gpu import GpuWatch
from mlpserve_server.observe.metrics import Description
from mlpserve_server.observe.statistics import Statistics


class Served(NamedTuple):
    """A model with what its requests and replies need.

    Attributes:
        model: has proven itself.
        codecs: one for each of METHODS.
        drift: what it has been asked; None where its artifact has nothing to compare that with.
        gpu: that it runs on; None on a CPU.
        statistics: of its answers.
    """

    model: LoadedModel
    codecs: tuple[Codec[Any], ...]
    drift: DriftWindow | None
    gpu: GpuWatch | None
    statistics: Statistics

    @property
    def version(self) -> int:
        """The model's version."""
        return self.model.version.manifest.version


def prepare(model: LoadedModel, max_request: int) -> Served:
    """Make what a model's requests and replies need, before it takes over, so that no request waits for it.

    Args:
        model: has proven itself.
        max_request: most images in one request.
    """
    codecs = (PredictCodec(model, max_request), ModelInferCodec(model, max_request))
    reference = model.version.manifest.reference
    drift = DriftWindow(reference, model.pixels) if reference.images else None
    return Served(model, codecs, drift, GpuWatch(model.pci_bus_id) if model.pci_bus_id else None, Statistics())


class Versions(NamedTuple):
    """What there is of one model at one moment. It does not change: the catalog replaces it as a whole.

    Attributes:
        serving: answers calls that name no version; None while none is proven.
        kept: answer calls that name them, by version; the one that served last comes first.
        pending: are about to be kept; calls that name them are asked to come back.
        refused: did not prove themselves here, each with why.
    """

    serving: Served | None = None
    kept: Mapping[int, Served] = MappingProxyType({})
    pending: frozenset[int] = frozenset()
    refused: Mapping[int, str] = MappingProxyType({})


NOTHING = Versions()


class Catalog:
    """What this server has of each model. Any thread may tell and ask it, and nobody waits for longer than a moment.

    Args:
        model: the name of the model that answers calls which name none.
        keep: how many versions beside the one that serves go on answering calls that name them.
    """

    def __init__(self, model: str, keep: int) -> None:
        self.model = model
        self._keep = keep
        self._models = {model: Versions()}
        self._changing = threading.Lock()

    def versions(self, name: str = "") -> Versions:
        """What there is of a model now; nothing of one that is unknown."""
        return self._models.get(name or self.model) or NOTHING

    def find(self, name: str = "", version: int = 0) -> Served:
        """What answers calls that name a model and a version; empty and 0 name none.

        Raises:
            NotReady: it is still being loaded.
            UnknownModel: it is not served here.
        """
        versions = self._models.get(name or self.model)
        if versions is None:
            raise unknown_model(name, self.model)
        kept = versions.kept.get(version)
        if kept is not None:
            return kept
        serving = versions.serving
        if serving is None:
            raise NotReady("the model is still being loaded; try again in a moment")
        if version in versions.pending and version != serving.version:
            raise NotReady(f"version {version} is still being loaded; try again in a moment")
        check_model(name, version, serving.model)
        return serving

    def serve(self, served: Served) -> None:
        """Let a model answer from the next batch on; the one before it goes on answering calls that name it."""
        with self._changing:
            versions = self.versions(served.model.ref.name)
            before = versions.serving
            kept = ({before.version: before} if before else {}) | dict(versions.kept)
            kept.pop(served.version, None)
            refused = {number: why for number, why in versions.refused.items() if number != served.version}
            kept = dict(islice(kept.items(), self._keep))
            # As a whole, so that a call which names a version finds it at every moment.
            self._models[served.model.ref.name] = versions._replace(serving=served, kept=kept, refused=refused)

    def keep(self, served: Served) -> bool:
        """Let a model answer calls that name its version, as if it had served before.

        Returns:
            Whether there was room for it, and it was not there yet.
        """
        name, number = served.model.ref.name, served.version
        with self._changing:
            versions = self.versions(name)
            serves = versions.serving is not None and versions.serving.version == number
            if not self.room(name) or number in versions.kept or serves:
                return False
            self._models[name] = versions._replace(kept={**versions.kept, number: served})
            return True

    def room(self, name: str) -> int:
        """How many more versions of a model can be kept."""
        return self._keep - len(self.versions(name).kept)

    def expect(self, name: str, pending: frozenset[int]) -> None:
        """Say which versions are about to be kept; none when that is over."""
        with self._changing:
            self._models[name] = self.versions(name)._replace(pending=pending)

    def refuse(self, name: str, version: int, why: str) -> None:
        """Say that a version did not prove itself here."""
        with self._changing:
            versions = self.versions(name)
            self._models[name] = versions._replace(refused={**versions.refused, version: why})

    def forget_refused(self, name: str, published: set[int]) -> None:
        """Forget refused versions that are no longer published."""
        with self._changing:
            versions = self.versions(name)
            refused = {number: why for number, why in versions.refused.items() if number in published}
            self._models[name] = versions._replace(refused=refused)

    def clear(self) -> None:
        """Let go of every model."""
        with self._changing:
            self._models = {name: Versions() for name in self._models}

    def describe(self) -> Description:
        """What is exported about the model that answers calls which name none."""
        served = self.versions().serving
        if served is None:
            return Description()
        model = served.model
        labels = {
            "model": model.ref.name,
            "version": str(model.ref.version),
            "digest": model.ref.digest,
            "provider": model.provider,
            "precision": model.precision_name,
        }
        drift = served.drift.snapshot() if served.drift else {}
        return Description(labels, drift, served.gpu.sample() if served.gpu else {})
