"""Loading versions for a server: the first one that can be served, and later ones beside it."""

import logging
import time

from mlpserve_server.catalog import Catalog, Served, prepare
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ArtifactError, StartupError, VersionMissing
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.models import loading
from mlpserve_server.store import promotion
from mlpserve_server.store.folder import Store, Version
from mlpserve_server.store.waiting import waiting_for

log = logging.getLogger(__name__)

PROOF_PAUSE = 0.0005  # seconds between two steps of a proof beside the model that serves


class Loader:
    """Loads and proves versions with a server's settings, as the model that serves already is run.

    Args:
        config: settings.
        catalog: knows what serves.
        max_request: most images in one request.
    """

    def __init__(self, config: ServerConfig, catalog: Catalog, max_request: int) -> None:
        self._config = config
        self._catalog = catalog
        self._max_request = max_request

    def load(self, version: Version) -> Served:
        """Load a version, prove it, and prepare it to take over.

        Raises:
            ArtifactError: a file is damaged, or the model does not give its golden answers.
            DeviceError: the device cannot be used.
        """
        config, started = self._config, time.monotonic()
        threads = config.threads or max(1, cpu_count() - 1)
        device, precision, pause = config.device, config.precision, 0.0
        if serving := self._catalog.versions(config.model).serving:
            pause = PROOF_PAUSE
            device = serving.model.device  # a GPU that has become too full does not turn this into a server on the CPU
            if precision == "auto":
                # Measuring beside the model that serves would measure both.
                precision = serving.model.precision_name
        model = loading.load(
            version,
            device=device,
            precision=precision,
            max_batch=config.max_batch,
            threads=threads,
            public_key=config.require_signature,
            pause=pause,
        )
        log.info(
            "%s version %d proven in %.2f s: %s, %s, %d threads",
            *(model.ref.name, model.ref.version, time.monotonic() - started),
            *(model.provider, model.precision_name, threads),
        )
        return prepare(model, self._max_request)


class Candidates:
    """The versions that a server may begin with, best first, each opened when it is its turn.

    Args:
        store: that they are in.
        config: settings.

    Raises:
        StoreError: the store or the model is not there, or nothing is published.
    """

    def __init__(self, store: Store, config: ServerConfig) -> None:
        self._store = store
        self._model = config.model
        numbers = [config.version]
        if not config.version:
            with waiting_for(f"which version of {config.model} to serve"):
                numbers, _ = promotion.candidates(store, config.model)
        self._left = iter(numbers)
        self._refused: dict[int, StartupError] = {}

    def next(self) -> Version:
        """The next one that can be opened.

        Raises:
            StartupError: there are no more; it is what was wrong with the first one.
        """
        for number in self._left:
            try:
                with waiting_for(f"the manifest of version {number}"):
                    return self._store.open(self._model, number)
            except (ArtifactError, VersionMissing) as error:
                self._refused[number] = error
        raise next(iter(self._refused.values()))

    def load(self, first: Version, loader: Loader) -> Served:
        """The first one that proves itself, from `first` on.

        Raises:
            StartupError: none does; it is what was wrong with the first one.
        """
        version = first
        while True:
            try:
                return loader.load(version)
            except ArtifactError as error:
                self._refused[version.manifest.version] = error
                version = self.next()

    def tell(self, catalog: Catalog, served: Served) -> None:
        """Let the catalog know which ones were refused, and the log which one serves instead."""
        for number, error in self._refused.items():
            catalog.refuse(self._model, number, str(error))
            log.error("version %d is refused, version %d is served instead: %s", number, served.version, error)
