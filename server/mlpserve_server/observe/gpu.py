"""Memory and utilisation of the GPU that serves, as its driver reports them (NVML)."""

import contextlib
import logging
from dataclasses import asdict, dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuSample:
    """One look at a GPU, by every process that uses it.

    Attributes:
        gpu: its PCI bus id.
        memory_used: bytes.
        memory_total: bytes.
        utilisation: share of the last moments in which a kernel ran, 0 to 1.
    """

    gpu: str
    memory_used: int
    memory_total: int
    utilisation: float


class GpuWatch:
    """Looks at one GPU.

    Args:
        pci_bus_id: the GPU's place on the bus; CUDA and NVML may count GPUs differently.
    """

    def __init__(self, pci_bus_id: str) -> None:
        self._pci_bus_id = pci_bus_id
        self._complained = False

    def sample(self) -> dict[str, str | int | float]:
        """The fields of a `GpuSample`; empty, with one line in the log, where the driver does not say."""
        try:
            import pynvml
        except ImportError:
            return self._none("nvidia-ml-py is not installed; it comes with 'mlpserve[server,gpu]'")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return self._none(str(error))
        with contextlib.ExitStack() as opened:
            opened.callback(pynvml.nvmlShutdown)
            try:
                handle = pynvml.nvmlDeviceGetHandleByPciBusId(self._pci_bus_id)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                utilisation = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            except pynvml.NVMLError as error:
                return self._none(str(error))
            return asdict(GpuSample(self._pci_bus_id, memory.used, memory.total, utilisation))

    def _none(self, reason: str) -> dict[str, str | int | float]:
        if not self._complained:
            log.warning("no metrics of GPU %s: %s", self._pci_bus_id, reason)
            self._complained = True
        return {}
