"""Loading a model, which trusts nothing.

The files are checked against their digests, then the golden samples run through the real provider at every batch size
that is warmed, and only a session that gives the published answers is returned. The proof is the warm-up too.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from mlpserve.v1.artifact_pb2 import FileRole, GoldenSamples, Precision
from mlpserve_server import cuda, outline, signing
from mlpserve_server.config import split_device
from mlpserve_server.errors import ArtifactError, DeviceError
from mlpserve_server.model import CPU, CUDA, LoadedModel
from mlpserve_server.resources import is_installed
from mlpserve_server.runners import BoundRunner, DeviceRunner, batch_sizes
from mlpserve_server.store import Version

log = logging.getLogger(__name__)

ROLES = {
    Precision.PRECISION_FP32: FileRole.FILE_ROLE_MODEL_FP32,
    Precision.PRECISION_INT8: FileRole.FILE_ROLE_MODEL_INT8,
}
PRECISIONS = {"fp32": Precision.PRECISION_FP32, "int8": Precision.PRECISION_INT8}

PROOF_IMAGES = 4  # golden samples of one later proof
CLEARLY_FASTER, NOT_SLOWER = 1.1, 0.95  # ratios of Run times

CUDA_OPTIONS = {
    "use_tf32": "0",  # it would round products to 10 bits, and the answers would not be the golden ones
    "arena_extend_strategy": "kSameAsRequested",  # not in powers of two, for a model of a megabyte
}


def load(
    version: Version,
    *,
    device: str,
    precision: str,
    max_batch: int,
    threads: int,
    public_key: str = "",
    pause: float = 0.0,
) -> LoadedModel:
    """Load a version and prove it.

    Args:
        version: the artifact.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32" or "int8"; "auto" loads both and keeps the one that measures faster here.
        max_batch: most images in one Run.
        threads: of ONNX Runtime on the CPU.
        public_key: PEM file of the key that must have signed the version; empty: no signature is asked for.
        pause: seconds to rest after each step of the proof, so that calls which another model answers meanwhile wait
            for one short step and not for all of them.

    Raises:
        ArtifactError: a file is damaged, the signature is missing or wrong, or the answers are not the golden ones.
        DeviceError: the device cannot be used.
    """
    version.fetch()
    version.verify()
    if public_key:
        signing.verify(version, public_key)
    kind, index = split_device(device)
    if precision == "int8":
        if kind == "cuda":
            raise DeviceError("--precision int8 is for CPUs and cannot be served with --device cuda; use fp32 or auto")
        device = "cpu"
    provider = choose_provider(device, version)
    golden = GoldenSamples.FromString(version.read(FileRole.FILE_ROLE_GOLDEN_SAMPLES))
    names = [precision] if precision != "auto" else ["fp32"] if provider == CUDA else ["fp32", "int8"]
    models = []
    for name in names:
        try:
            session = _session(version, ROLES[PRECISIONS[name]], provider, threads, index)
            time.sleep(pause)
            model = _model(version, PRECISIONS[name], session, index, max_batch)
            _prove(model, golden, pause)
        except ArtifactError as error:
            if len(names) == 1 or name == "fp32":
                raise
            log.warning("int8 is left out: %s", error)
            continue
        models.append(model)
    return models[0] if len(models) == 1 else _faster(models)


def choose_provider(device: str, version: Version) -> str:
    """The execution provider for "auto", "cpu", "cuda" or "cuda:N", tried on the version's own float32 file.

    Raises:
        DeviceError: "cuda" cannot be used here, or both builds of ONNX Runtime are installed.
    """
    if is_installed("onnxruntime") and is_installed("onnxruntime-gpu"):
        raise DeviceError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "uninstall both, then install one: pip install 'mlpserve[server,cpu]' or 'mlpserve[server,gpu]'"
        )
    if device == "cpu":
        return CPU
    kind, index = split_device(device)
    reason = _why_not_cuda(version, index)
    if reason is None:
        return CUDA
    if kind == "cuda":
        raise DeviceError(
            f"--device {device}: {reason}. Use --device cpu, or auto to take a GPU only where there is one"
        )
    log.info("device auto: serving on the CPU: %s", reason)
    return CPU


def _why_not_cuda(version: Version, index: int) -> str | None:
    """Why the CUDA provider cannot run on a GPU here; None when it can."""
    if CUDA not in ort.get_available_providers():
        return "this ONNX Runtime has no CUDA provider; on a machine with an NVIDIA GPU install 'mlpserve[server,gpu]'"
    cuda.preload()
    try:
        _session(version, FileRole.FILE_ROLE_MODEL_FP32, CUDA, 1, index)
        cuda.CudaMemory(index)
    except (ArtifactError, DeviceError) as error:
        return str(error)
    return None


def _model(
    version: Version, precision: Precision, session: ort.InferenceSession, index: int, max_batch: int
) -> LoadedModel:
    """A session with what runs it on the device that it is on."""
    image, provider = version.manifest.image, session.get_providers()[0]
    pixels, classes = image.rows * image.cols, len(version.manifest.labels)
    if provider != CUDA:
        return LoadedModel(version, precision, provider, max_batch, BoundRunner(session, max_batch, pixels, classes))
    memory = cuda.CudaMemory(index)
    runner = DeviceRunner(session, max_batch, pixels, classes, memory)
    return LoadedModel(version, precision, provider, max_batch, runner, f"cuda:{index}", memory.pci_bus_id())


def _session(version: Version, role: FileRole, provider: str, threads: int, index: int) -> ort.InferenceSession:
    content = version.read(role)
    outline.check(content, version.folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are shared with the transport
    providers: list[Any] = [(CUDA, CUDA_OPTIONS | {"device_id": str(index)})] if provider == CUDA else [CPU]
    if provider == CUDA:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:
        # ONNX Runtime's exceptions share no base below Exception; any of them means that this file cannot be served.
        raise ArtifactError(
            f"{version.folder}: ONNX Runtime cannot load the {FileRole.Name(role)} file: {_first_line(error)}"
        ) from error
    if session.get_providers()[0] != provider:
        raise DeviceError(f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}; see its log above")
    _check_signature(version, session)
    return session


def _check_signature(version: Version, session: ort.InferenceSession) -> None:
    """The graph must have the inputs and outputs that the manifest promises."""
    manifest = version.manifest
    expected = {
        "images": ("tensor(uint8)", manifest.image.rows * manifest.image.cols),
        "class_ids": ("tensor(int32)", None),
        "scores": ("tensor(float)", None),
        "probabilities": ("tensor(float)", len(manifest.labels)),
    }
    found = {
        item.name: (item.type, item.shape[1] if len(item.shape) == 2 else None)
        for item in [*session.get_inputs(), *session.get_outputs()]
    }
    if found != expected:
        raise ArtifactError(f"{version.folder}: the graph has {found}, the manifest promises {expected}")


class _Golden:
    """The answers that one file must give to the golden images.

    Args:
        golden: the artifact's golden samples.
        model: whose file it is.

    Raises:
        ArtifactError: there are none.
    """

    def __init__(self, golden: GoldenSamples, model: LoadedModel) -> None:
        answers = next((a for a in golden.answers if a.precision == model.precision), None)
        if answers is None or len(golden.images) == 0 or len(golden.images) % model.pixels:
            raise ArtifactError(f"{model.version.folder}: no golden samples for this file; publish the model again")
        self.images = np.frombuffer(golden.images, np.uint8).reshape(-1, model.pixels)
        self._class_ids = np.array(answers.class_ids, np.int32)
        self._probabilities = np.array(answers.probabilities, np.float32).reshape(-1, model.classes)
        self._tolerance = answers.tolerance
        # Where two classes are as good as equal, as they may be for an extreme image, either may come first.
        runner_up = np.partition(self._probabilities, -2, axis=1)[:, -2]
        self._clear = self._probabilities.max(axis=1) - runner_up > 2 * answers.tolerance

    def compare(self, model: LoadedModel, rows: npt.NDArray[np.int64]) -> None:
        """Run some of the images, all in one batch, and hold the answers against the published ones.

        Raises:
            ArtifactError: the Run fails, or an answer is another.
        """
        try:
            predictions = model.predict(self.images[rows])
        except Exception as error:
            raise ArtifactError(
                f"{model.version.folder}: a Run of {len(rows)} images failed: {_first_line(error)}"
            ) from error
        difference = float(np.abs(predictions.probabilities - self._probabilities[rows]).max())
        clear = self._clear[rows]
        # Written so that NaN fails too.
        if not (
            difference <= self._tolerance and np.array_equal(predictions.class_ids[clear], self._class_ids[rows][clear])
        ):
            name = Precision.Name(model.precision)
            raise ArtifactError(
                f"{model.version.folder}: {name} does not give its golden answers with {model.provider} at batch size "
                f"{len(rows)}: probabilities differ by up to {difference:.2g} (allowed {self._tolerance:.2g}). "
                "The file or this machine's ONNX Runtime is wrong; the version is not served"
            )


def _prove(model: LoadedModel, samples: GoldenSamples, pause: float) -> None:
    """Run the golden samples at every warmed batch size.

    Raises:
        ArtifactError: an answer is not the published one.
    """
    golden = _Golden(samples, model)
    few = np.arange(min(PROOF_IMAGES, len(golden.images)))
    model.proof = lambda loaded: golden.compare(loaded, few)
    for size in batch_sizes(model.max_batch):
        for rows in _windows(len(golden.images), size):
            golden.compare(model, rows)
            time.sleep(pause)


def _windows(samples: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers in groups of `size` that cover every sample at least once, wrapping round."""
    for start in range(0, samples, size):
        yield np.arange(start, start + size) % samples


def _faster(models: list[LoadedModel]) -> LoadedModel:
    """The model with the shortest Runs of one image and of a full batch, best of interleaved rounds.

    The first one stays unless another is clearly faster at one size and not slower at the other, so that noise does not
    decide which file a replica serves.
    """
    sizes = (1, models[0].max_batch)
    best = [dict.fromkeys(sizes, float("inf")) for _ in models]
    for _ in range(15):
        for size in sizes:
            images = np.zeros((size, models[0].pixels), np.uint8)
            for seconds, model in zip(best, models, strict=True):
                started = time.perf_counter()
                model.predict(images)
                seconds[size] = min(seconds[size], time.perf_counter() - started)
    gains = [[best[0][size] / seconds[size] for size in sizes] for seconds in best]
    index = max(range(len(models)), key=lambda i: sum(gains[i]))
    if max(gains[index]) < CLEARLY_FASTER or min(gains[index]) < NOT_SLOWER:
        index = 0
    timings = "; ".join(
        f"{model.precision_name} " + ", ".join(f"{seconds[size] * 1e6:.0f} µs for {size}" for size in sizes)
        for seconds, model in zip(best, models, strict=True)
    )
    log.info("precision auto: serving %s (%s)", models[index].precision_name, timings)
    return models[index]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
