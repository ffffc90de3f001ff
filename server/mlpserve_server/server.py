"""The server's life: start, serve, drain, stop. Signals and exit codes belong to `cli.py`."""

import logging
import time

from mlpserve.v1.classifier_pb2 import ServingInfo
from mlpserve_server import loading
from mlpserve_server.batching import BatchingLoop
from mlpserve_server.config import ServerConfig
from mlpserve_server.metrics import Metrics, MetricsEndpoint
from mlpserve_server.model import LoadedModel
from mlpserve_server.resources import cpu_count
from mlpserve_server.services import ControlServices
from mlpserve_server.store import Store
from mlpserve_server.transports import Transport, open_transport

log = logging.getLogger(__name__)

MESSAGE_OVERHEAD = 4096  # bytes of a request beside its images
LARGEST_MESSAGE = 2**31 - 1  # bytes, of gRPC and protobuf


class Server:
    """Serves one model on one port.

    Usable without the command line: `with Server(config) as server: ...`.

    Args:
        config: settings.
        share_port: let other processes listen on the same port.
    """

    def __init__(self, config: ServerConfig, share_port: bool = False) -> None:
        self.config = config
        self._share_port = share_port
        self.metrics = Metrics()
        self.address = ""
        self._store = Store(config.store)
        self._model: LoadedModel | None = None
        self._transport: Transport | None = None
        self._loop: BatchingLoop | None = None
        self._endpoint: MetricsEndpoint | None = None

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
        return self._model

    def start(self) -> LoadedModel:
        """Listen with health NOT_SERVING, prove the model, then serve it.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        model = self.prepare()
        self.serve()
        return model

    def prepare(self) -> LoadedModel:
        """Listen with health NOT_SERVING and prove the model.

        Raises:
            StartupError: the store, the artifact, the device or an address is not usable.
        """
        config = self.config
        version = self._store.open(config.model, config.version)
        pixels = version.manifest.image.rows * version.manifest.image.cols
        self._max_request = min(config.max_request, (LARGEST_MESSAGE - MESSAGE_OVERHEAD) // pixels)
        self._max_message = self._max_request * pixels + MESSAGE_OVERHEAD
        if config.metrics_listen:
            self._endpoint = MetricsEndpoint(self.metrics.collect, config.metrics_listen)
        services = ControlServices(self._store, config.model, lambda: self._model, self._serving_info)
        self._transport = open_transport(config, services, self._max_message, self._share_port)
        self.address = self._transport.start()
        self._loop = BatchingLoop(
            self._transport,
            lambda: self._model,
            self.metrics,
            max_batch=config.max_batch,
            max_request=self._max_request,
            max_queue=config.max_queue,
        )
        self._loop.start()

        started = time.monotonic()
        threads = config.threads or max(1, cpu_count() - 1)
        model = loading.load(
            version, device=config.device, precision=config.precision, max_batch=config.max_batch, threads=threads
        )
        log.info(
            "%s version %d proven in %.2f s: %s, %s, %d threads",
            *(model.ref.name, model.ref.version, time.monotonic() - started),
            *(model.provider, model.precision_name, threads),
        )
        self._loop.prepare(model)
        self._model = model
        self.metrics.model = {
            "model": model.ref.name,
            "version": str(model.ref.version),
            "digest": model.ref.digest,
            "provider": model.provider,
            "precision": model.precision_name,
        }
        return model

    def serve(self) -> None:
        """Turn health to SERVING; the model has been prepared."""
        if self._transport is not None:
            self.metrics.ready = True
            self._transport.set_serving(True)

    def stop(self) -> bool:
        """Withdraw health, finish accepted calls, close. Does nothing the second time.

        Returns:
            Whether every accepted call was answered within the drain timeout.
        """
        transport, loop, endpoint = self._transport, self._loop, self._endpoint
        self._transport = self._loop = self._endpoint = None
        finished = True
        if transport is not None and self.address:
            self.metrics.ready = False
            transport.set_serving(False)
            if loop is not None:
                finished = loop.drain(self.config.drain_timeout)
            transport.stop()
        if endpoint is not None:
            endpoint.close()
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
