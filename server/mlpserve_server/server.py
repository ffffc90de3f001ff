"""The server's life: start, serve, follow the store, drain, stop. Signals and exit codes belong to `cli.py`.

A store may hang for ever, so whoever reads it is a thread that nobody waits for without a bound.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve.v1.classifier_pb2 import ServingInfo
from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.loop import PROBE_SECONDS, BatchingLoop
from mlpserve_server.batching.recording import Recorder
from mlpserve_server.catalog import Catalog
from mlpserve_server.config import ServerConfig
from mlpserve_server.control.liveness import Liveness
from mlpserve_server.control.services import ControlServices
from mlpserve_server.errors import StartupError
from mlpserve_server.following import Follower
from mlpserve_server.host.bounded import within
from mlpserve_server.loader import Candidates, Loader
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.prometheus import MetricsEndpoint, families
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.observe.tracing import Tracing
from mlpserve_server.started import Started
from mlpserve_server.store.folder import Store, Version
from mlpserve_server.store.object_storage import open_store
from mlpserve_server.store.waiting import longest, waiting_for
from mlpserve_server.transports import Transport, open_transport

log = logging.getLogger(__name__)

STEP_SECONDS = 5.0  # for each step of a stop that takes a moment where nothing hangs
JOIN_SECONDS = 1.0  # for a version that is being loaded; nobody is served meanwhile, and nothing will come of it
LEAST_STALE = 1.5 * PROBE_SECONDS  # a model that proves itself in time must not look stale between two proofs
MESSAGE_OVERHEAD = 4096  # bytes of a request beside its images
LARGEST_MESSAGE = 2**31 - 1  # bytes, of gRPC and protobuf


class Sizes(NamedTuple):
    """The largest request, in images and in bytes."""

    images: int
    message: int


class Server:
    """Serves one model on one port.

    Usable without the command line: `with Server(config) as server: ...`.

    Args:
        config: settings.
        share_port: let other processes listen on the same port.
        on_stuck: called from another thread, with why, when for `stall_timeout` no batch has run or no connection was
            taken, and the process is of no use.

    Attributes:
        catalog: knows which model answers.
        metrics: the server's counters.
        address: HOST:PORT once it listens.
    """

    def __init__(
        self, config: ServerConfig, share_port: bool = False, on_stuck: Callable[[str], None] = log.critical
    ) -> None:
        self.config = config
        self._share_port = share_port
        self._on_stuck = on_stuck
        self.catalog = Catalog(config.model, config.keep_versions)
        self.metrics = Metrics(self.catalog.describe)
        self.address = ""
        self._serving = threading.Lock()  # held while calls begin to be answered, or are kept from it for good
        self._stopped = False
        self._finished = True
        self._opened = ExitStack()  # what a stop closes, the latest first
        self._opened.callback(self.catalog.clear)
        self._transport: Transport | None = None
        self._loop: BatchingLoop | None = None
        self._follower: Follower | None = None
        self._liveness: Liveness | None = None

    def __enter__(self) -> "Server":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def model(self) -> LoadedModel | None:
        """The model that answers now; None while none is proven."""
        serving = self.catalog.versions().serving
        return serving.model if serving else None

    def start(self) -> Started:
        """Listen with health NOT_SERVING, prove the model, then serve it.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        started = self.prepare()
        self.serve()
        return started

    def waiting(self) -> str:
        """What a start that is under way waits for, in a sentence; empty if for nothing that can hang."""
        return longest()

    def prepare(self) -> Started:
        """Listen with health NOT_SERVING and prove the model; with a shared port, the other way round.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        config = self.config
        with waiting_for(f"the store {config.store} itself"):
            store = open_store(config.store)
        candidates = Candidates(store, config)
        first = candidates.next()
        sizes = _sizes(config, first.manifest)
        loader = Loader(config, self.catalog, sizes.images)
        self._open(store, sizes)
        # Beside other workers the port leads to this one as soon as it listens, so it must be able to answer by then.
        if self._share_port:
            model = self._serve_first(first, candidates, loader)
            self._listen()
        else:
            self._listen()
            model = self._serve_first(first, candidates, loader)
        if config.poll and not config.version:
            self._follower = Follower(store, config.model, config.poll, self.catalog, loader, self.metrics)
            self._opened.callback(self._follower.stop)
        return Started(model.ref.name, model.ref.version, model.precision_name, self.address)

    def _open(self, store: Store, sizes: Sizes) -> None:
        """Make everything but the model, without an open port of the calls."""
        config = self.config
        self._opened.callback(self._leave_follower)
        tracing = None
        if config.trace:
            tracing = Tracing(config.trace, {"mlpserve.model": config.model})
            self._closing("sending the last spans", tracing.close)
        if config.metrics_listen:
            endpoint = MetricsEndpoint(partial(families, self.metrics), config.metrics_listen)
            self._closing("closing the metrics' port", endpoint.close)
        info = partial(self._serving_info, sizes)
        self._transport = open_transport(
            config,
            ControlServices(store, self.catalog, info),
            sizes.message,
            on_dropped=self.metrics.turned_away,
            share_port=self._share_port,
        )
        admission = Admission(
            self.catalog,
            self.metrics,
            max_batch=config.max_batch,
            max_queue=config.max_queue,
            batch_queue=config.batch_queue,
            batch_share=config.batch_share,
        )
        recorder = Recorder(self.metrics, RequestLog(config.slow_request), tracing)
        self._loop = BatchingLoop(self._transport, self.catalog, admission, recorder)

    def _closing(self, what: str, close: Callable[[], object]) -> None:
        """Let a stop close something, which may hang."""
        self._opened.callback(within, STEP_SECONDS, what, close)

    def _listen(self) -> None:
        """Open the port, and answer what comes there."""
        assert self._transport is not None and self._loop is not None
        self._check_not_stopped()
        self.address = self._transport.start()
        self._closing("closing the port", self._transport.stop)
        self._opened.callback(self._drain, self._loop)
        self._loop.start()

    def _serve_first(self, first: Version, candidates: Candidates, loader: Loader) -> LoadedModel:
        """Let the first version that proves itself answer, unless nobody is to be answered any longer.

        Raises:
            StartupError: none does, or the server was stopped meanwhile.
        """
        served = candidates.load(first, loader)
        candidates.tell(self.catalog, served)
        with self._serving:
            self._check_not_stopped()
            self.catalog.serve(served)
            if self.address and self._loop is not None:
                self._loop.widen()
        return served.model

    def _check_not_stopped(self) -> None:
        if self._stopped:
            raise StartupError("stopped before it was ready")

    def serve(self) -> None:
        """Turn health to SERVING and follow the store; the model has been prepared."""
        with self._serving:
            if self._stopped or self._transport is None or self._loop is None:
                return
            self._set_ready(True)
            loop = self._loop
            self._liveness = Liveness(
                {
                    "the model has not proven itself": lambda: loop.proved,
                    "the server takes no connections": self._transport.listened,
                },
                stale=max(self.config.stall_timeout / 4, LEAST_STALE),
                stuck=self.config.stall_timeout,
                set_ready=self._set_ready,
                on_stuck=self._on_stuck,
            )
            self._liveness.start()
            self._opened.callback(self._liveness.stop)
        if self._follower is not None:
            self._follower.start()

    def _set_ready(self, ready: bool) -> None:
        assert self._transport is not None
        self.metrics.ready = ready
        self._transport.set_serving(ready)

    def stop(self) -> bool:
        """Withdraw health, finish accepted calls, close. Does nothing the second time.

        Ends a start that is under way in another thread too: from now on no model begins to answer. Nothing here waits
        for the store.

        Returns:
            Whether every accepted call was answered within the drain timeout.
        """
        self._stopped = True
        if self._serving.acquire(timeout=STEP_SECONDS):
            self._serving.release()
        self._opened.close()
        return self._finished

    def _drain(self, loop: BatchingLoop) -> None:
        within(STEP_SECONDS, "telling callers of the end", partial(self._set_ready, False))
        if self.model is not None:
            time.sleep(self.config.drain_delay)
        self._finished = loop.drain(self.config.drain_timeout)

    def _leave_follower(self) -> None:
        if self._follower is not None and not self._follower.join(JOIN_SECONDS):
            reason = longest() or "it was being verified"
            log.error("shutdown does not wait for the version that was loading; %s", reason)

    def _serving_info(self, sizes: Sizes, model: LoadedModel) -> ServingInfo:
        return ServingInfo(
            provider=model.provider,
            precision=model.precision,
            max_batch_images=self.config.max_batch,
            max_request_images=sizes.images,
            max_message_bytes=sizes.message,
            transport=self._transport.name if self._transport else "",
        )


def _sizes(config: ServerConfig, manifest: Manifest) -> Sizes:
    """The largest request of a server whose first version has this manifest."""
    pixels = manifest.image.rows * manifest.image.cols
    images = min(config.max_request, (LARGEST_MESSAGE - MESSAGE_OVERHEAD) // pixels)
    return Sizes(images, images * pixels + MESSAGE_OVERHEAD)
