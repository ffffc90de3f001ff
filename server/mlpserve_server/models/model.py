"""A loaded model: what answers images [N, D] with classes.

Legend: N images, D pixels, C classes.
"""

from collections.abc import Callable

import numpy as np

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve.v1.classifier_pb2 import ModelRef
from mlpserve_server.models.runners import BoundRunner, DeviceRunner, Images, Predictions
from mlpserve_server.store.folder import Version

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


Proof = Callable[["LoadedModel"], None]


class LoadedModel:
    """A session and what it serves; `loading.load` makes one and proves it.

    Args:
        version: the artifact.
        precision: which of its ONNX files is loaded.
        provider: ONNX Runtime's name of the execution provider.
        max_batch: most images in one Run; larger inputs are cut.
        runner: runs the loaded file.
        proof: runs some of the golden samples, and raises ArtifactError when an answer is not the published one. It is
            given the model rather than holding it: a cycle would keep a replaced model in memory.
        device: "cpu" or "cuda:N".
        pci_bus_id: of the GPU that it runs on; empty on a CPU.

    Attributes:
        concurrent: whether several threads may use it at a time; then answers are not overwritten either.
    """

    def __init__(
        self,
        version: Version,
        precision: Precision,
        provider: str,
        max_batch: int,
        runner: BoundRunner | DeviceRunner,
        proof: Proof,
        device: str = "cpu",
        pci_bus_id: str = "",
    ) -> None:
        manifest = version.manifest
        self.version = version
        self.precision = precision
        self.provider = provider
        self.max_batch = max_batch
        self.ref = ModelRef(name=manifest.model, version=manifest.version, digest=version.digest)
        self.pixels = manifest.image.rows * manifest.image.cols
        self.classes = len(manifest.labels)
        self.concurrent = isinstance(runner, DeviceRunner)
        self.device = device
        self.pci_bus_id = pci_bus_id
        self._run = runner.run
        self._proof = proof

    @property
    def precision_name(self) -> str:
        """The precision as people write it: "fp32" or "int8"."""
        return Precision.Name(self.precision).removeprefix("PRECISION_").lower()

    def prove(self) -> None:
        """Run some of the golden samples again.

        Raises:
            ArtifactError: an answer is not the published one.
        """
        self._proof(self)

    def predict(self, images: Images) -> Predictions:
        """Classify images [N, D] in Runs of at most `max_batch`. Unless `concurrent`, the next call overwrites them."""
        if len(images) <= self.max_batch:
            return self._run(images)
        starts = range(0, len(images), self.max_batch)
        parts = [self._run(images[start : start + self.max_batch]).copy() for start in starts]
        return Predictions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
