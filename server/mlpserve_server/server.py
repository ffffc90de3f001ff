"""The server's life: start, serve, follow the store, drain, stop. Signals and exit codes belong to `cli.py`.

A store may hang for ever, so whoever reads it is a thread that nobody waits for without a bound.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

from grpc import StatusCode

from mlpserve.v1.classifier_pb2 import ServingInfo
from mlpserve_server.batching.loop import PROBE_SECONDS, BatchingLoop
from mlpserve_server.config import ServerConfig
from mlpserve_server.control.liveness import Liveness
from mlpserve_server.control.services import ControlServices
from mlpserve_server.errors import ArtifactError, StartupError, VersionMissing
from mlpserve_server.following import Follower
from mlpserve_server.host.bounded import within
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.models import loading
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.gpu import GpuWatch
from mlpserve_server.observe.metrics import Metrics, MetricsEndpoint
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.observe.tracing import Tracing
from mlpserve_server.store import promotion
from mlpserve_server.store.folder import Store, Version
from mlpserve_server.store.object_storage import open_store
from mlpserve_server.store.waiting import longest, waiting_for
from mlpserve_server.transports import Transport, open_transport

log = logging.getLogger(__name__)

STEP_SECONDS = 5.0  # for each step of a stop that takes a moment where nothing hangs
JOIN_SECONDS = 1.0  # for a version that is being loaded; nobody is served meanwhile, and nothing will come of it
LEAST_STALE = 1.5 * PROBE_SECONDS  # a model that proves itself in time must not look stale between two proofs
PROOF_PAUSE = 0.0005  # seconds between two steps of a proof beside the model that serves
MESSAGE_OVERHEAD = 4096  # bytes of a request beside its images
LARGEST_MESSAGE = 2**31 - 1  # bytes, of gRPC and protobuf


class Server:
    """Serves one model on one port.

    Usable without the command line: `with Server(config) as server: ...`.

    Args:
        config: settings.
        share_port: let other processes listen on the same port.
        on_stuck: called from another thread, with why, when for `stall_timeout` no batch has run or no connection was
            taken, and the process is of no use.
    """

    def __init__(
        self, config: ServerConfig, share_port: bool = False, on_stuck: Callable[[str], None] = log.critical
    ) -> None:
        self.config = config
        self._share_port = share_port
        self._on_stuck = on_stuck
        self.metrics = Metrics()
        self.address = ""
        self._serving = threading.Lock()  # held while calls begin to be answered, or are kept from it for good
        self._stopped = False
        self._store: Store
        self._transport: Transport | None = None
        self._loop: BatchingLoop | None = None
        self._follower: Follower | None = None
        self._liveness: Liveness | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._tracing: Tracing | None = None

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
        return self._loop.model if self._loop else None

    def _find(self, version: int = 0) -> LoadedModel | None:
        """What answers calls that name a version, see `BatchingLoop.find`."""
        return self._loop.find(version) if self._loop else None

    def start(self) -> LoadedModel:
        """Listen with health NOT_SERVING, prove the model, then serve it.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        model = self.prepare()
        self.serve()
        return model

    def prepare(self) -> LoadedModel:
        """Listen with health NOT_SERVING and prove the model; with a shared port, the other way round.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        config = self.config
        refused: dict[int, StartupError] = {}
        with waiting_for(f"the store {config.store} itself"):
            self._store = open_store(config.store)
        candidates = self._candidates(refused)
        first = next(candidates)
        candidates = itertools.chain([first], candidates)
        image = first.manifest.image
        pixels = image.rows * image.cols
        self._max_request = min(config.max_request, (LARGEST_MESSAGE - MESSAGE_OVERHEAD) // pixels)
        self._max_message = self._max_request * pixels + MESSAGE_OVERHEAD
        if config.metrics_listen:
            self._endpoint = MetricsEndpoint(self.metrics.collect, config.metrics_listen)
        services = ControlServices(
            self._store, config.model, self._find, self._serving_info, self._refused, config.max_batch
        )
        self._transport = open_transport(
            config, services, self._max_message, on_dropped=self._count_dropped, share_port=self._share_port
        )
        if config.trace:
            self._tracing = Tracing(config.trace, self._transport.metadata, {"mlpserve.model": config.model})
        self._loop = BatchingLoop(
            self._transport,
            self.metrics,
            max_batch=config.max_batch,
            max_request=self._max_request,
            max_queue=config.max_queue,
            keep=config.keep_versions,
            request_log=RequestLog(self._transport.metadata, config.slow_request),
            tracing=self._tracing,
        )
        # Beside other workers the port leads to this one as soon as it listens, so it must be able to answer by then.
        if self._share_port:
            self._serve_first(self._load_first(candidates, refused))
        self.address = self._transport.start()
        self._loop.start()
        if not self._share_port:
            self._serve_first(self._load_first(candidates, refused))
        model = self.model
        assert model is not None
        if config.poll and not config.version:
            self._follower = Follower(
                self._store,
                config.model,
                config.poll,
                current=lambda: self.model,
                load=self._load,
                hand_over=self._hand_over,
                keep=self._loop.keep,
                kept=config.keep_versions,
                set_pending=self._set_pending,
                metrics=self.metrics,
                refused={number: str(error) for number, error in refused.items()},
            )
        return model

    def _serve_first(self, model: LoadedModel) -> None:
        """Let the first model answer, unless nobody is to be answered any longer."""
        with self._serving:
            if self._stopped:
                raise StartupError("stopped before it was ready")
            self._hand_over(model)

    def _candidates(self, refused: dict[int, StartupError]) -> Iterator[Version]:
        """The versions that may be served, best first, each opened when it is asked for.

        Args:
            refused: gets those that cannot be opened, with why.

        Raises:
            StartupError: there are no more; it is what was wrong with the first one.
        """
        numbers = [self.config.version]
        if not self.config.version:
            with waiting_for(f"which version of {self.config.model} to serve"):
                numbers, _ = promotion.candidates(self._store, self.config.model)
        for number in numbers:
            try:
                with waiting_for(f"the manifest of version {number}"):
                    version = self._store.open(self.config.model, number)
            except (ArtifactError, VersionMissing) as error:
                refused[number] = error
            else:
                yield version
        raise next(iter(refused.values()))

    def _load_first(self, candidates: Iterator[Version], refused: dict[int, StartupError]) -> LoadedModel:
        """The first version that proves itself; those before it are added to `refused`.

        Raises:
            StartupError: none does; it is what was wrong with the first one.
        """
        for version in candidates:
            try:
                model = self._load(version)
            except ArtifactError as error:
                refused[version.manifest.version] = error
                continue
            for number, reason in refused.items():
                log.error("version %d is refused, version %d is served instead: %s", number, model.ref.version, reason)
            return model
        raise AssertionError("the candidates end with an error")

    def _load(self, version: Version) -> LoadedModel:
        """Load a version and prove it."""
        config, started = self.config, time.monotonic()
        threads = config.threads or max(1, cpu_count() - 1)
        device, precision, pause = config.device, config.precision, 0.0
        if self.model is not None:
            pause = PROOF_PAUSE
            device = self.model.device  # a GPU that has become too full does not turn this server into one on the CPU
            if precision == "auto":
                precision = self.model.precision_name  # measuring beside the model that serves would measure both
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
        return model

    def _hand_over(self, model: LoadedModel) -> None:
        """Let a proven model answer from now on."""
        assert self._loop is not None
        self._loop.serve(model)
        self.metrics.model = {
            "model": model.ref.name,
            "version": str(model.ref.version),
            "digest": model.ref.digest,
            "provider": model.provider,
            "precision": model.precision_name,
        }
        if model.pci_bus_id:
            self.metrics.gpu = GpuWatch(model.pci_bus_id).sample

    def _set_pending(self, versions: frozenset[int]) -> None:
        assert self._loop is not None
        self._loop.pending = versions

    def _count_dropped(self, reason: str) -> None:
        self.metrics.dropped[reason] += 1
        if reason == "unauthenticated":
            self.metrics.handled[-1][StatusCode.UNAUTHENTICATED.name] += 1

    def _refused(self) -> dict[int, str]:
        return self._follower.refused if self._follower else {}

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
        transport, loop, follower = self._transport, self._loop, self._follower
        finished = True
        if self._liveness is not None:
            self._liveness.stop()
        if follower is not None:
            follower.stop()
        if transport is not None and self.address:
            within(STEP_SECONDS, "telling callers of the end", lambda: self._set_ready(False))
            if loop is not None:
                if loop.model is not None:
                    time.sleep(self.config.drain_delay)
                finished = loop.drain(self.config.drain_timeout)
            within(STEP_SECONDS, "closing the port", transport.stop)
        if self._endpoint is not None:
            within(STEP_SECONDS, "closing the metrics' port", self._endpoint.close)
        if self._tracing is not None:
            within(STEP_SECONDS, "sending the last spans", self._tracing.close)
        if follower is not None and not follower.join(JOIN_SECONDS):
            log.error(
                "shutdown does not wait for the version that was loading; %s", longest() or "it was being verified"
            )
        self._transport = self._loop = self._endpoint = self._liveness = self._follower = self._tracing = None
        return finished

    def _serving_info(self, model: LoadedModel) -> ServingInfo:
        return ServingInfo(
            provider=model.provider,
            precision=model.precision,
            max_batch_images=self.config.max_batch,
            max_request_images=self._max_request,
            max_message_bytes=self._max_message,
            transport=self._transport.name if self._transport else "",
        )
