"""Loading a model, which trusts nothing.

The files are checked against their digests, then the golden samples run through the real provider at every batch size
that is warmed, and only a session that gives the published answers is returned. The proof is the warm-up too.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from google.protobuf.message import DecodeError

from mlpserve.v1.artifact_pb2 import FileRole, GoldenSamples, Precision
from mlpserve_server.config import split_device
from mlpserve_server.errors import ArtifactError, DeviceError, first_line
from mlpserve_server.host.cpus import is_installed
from mlpserve_server.models import cuda, cuda_libraries, graph_check, signing
from mlpserve_server.models.model import CPU, CUDA, LoadedModel, Proof
from mlpserve_server.models.proof import GoldenAnswers
from mlpserve_server.models.runners import BoundRunner, DeviceRunner
from mlpserve_server.store.folder import Version
from mlpserve_server.store.waiting import waiting_for

log = logging.getLogger(__name__)

ROLES = {
    Precision.PRECISION_FP32: FileRole.FILE_ROLE_MODEL_FP32,
    Precision.PRECISION_INT8: FileRole.FILE_ROLE_MODEL_INT8,
}
PRECISIONS = {"fp32": Precision.PRECISION_FP32, "int8": Precision.PRECISION_INT8}

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
        DeviceError: the device cannot be used; with "auto" the CPU is taken instead, and the log says why.
    """
    with waiting_for(f"the files of version {version.manifest.version}"):
        version.fetch()
        version.verify()
        if public_key:
            signing.verify(version, public_key)
    _check_packages()
    kind, index = split_device(device)
    if precision == "int8":
        if kind == "cuda":
            raise DeviceError("--precision int8 is for CPUs and cannot be served with --device cuda; use fp32 or auto")
        kind = "cpu"
    try:
        golden = GoldenSamples.FromString(_read(version, FileRole.FILE_ROLE_GOLDEN_SAMPLES))
    except DecodeError as error:
        raise ArtifactError(f"{version.folder}: the golden samples cannot be read; publish the model again") from error

    def prepare(name: str, provider: str) -> LoadedModel:
        session = _session(version, ROLES[PRECISIONS[name]], provider, threads, index)
        time.sleep(pause)
        answers = GoldenAnswers(golden, version, PRECISIONS[name])
        model = _model(version, PRECISIONS[name], session, index, max_batch, answers.prove_again)
        answers.prove(model, pause)
        return model

    reason = ""
    if kind != "cpu":
        try:
            cuda_libraries.load(index)
            return prepare("fp32", CUDA)
        except (
            DeviceError,
            ArtifactError,
        ) as error:  # wrong answers too: a file that is to blame fails on the CPU as well
            if kind == "cuda":
                raise _explained(error, device) from error
            reason = str(error)
    model = _on_cpu(prepare, precision)
    if reason:
        level = logging.WARNING if cuda_libraries.has_provider() else logging.INFO
        log.log(level, "device auto: serving on the CPU: %s", reason)
    return model


def _explained(error: DeviceError | ArtifactError, device: str) -> DeviceError | ArtifactError:
    if isinstance(error, ArtifactError):
        return error
    return DeviceError(f"--device {device}: {error}. Use --device cpu, or auto to take a GPU only where one works")


def _on_cpu(prepare: Callable[[str, str], LoadedModel], precision: str) -> LoadedModel:
    """The file of that precision; for "auto" whichever of the two is faster here."""
    models = [prepare("fp32" if precision == "auto" else precision, CPU)]
    if precision == "auto":
        try:
            models.append(prepare("int8", CPU))
        except ArtifactError as error:
            log.warning("int8 is left out: %s", error)
    return models[0] if len(models) == 1 else _faster(models)


def _check_packages() -> None:
    """Refuse to serve from an environment with both builds of ONNX Runtime.

    Raises:
        DeviceError: it has.
    """
    if is_installed("onnxruntime") and is_installed("onnxruntime-gpu"):
        raise DeviceError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "uninstall both, then install one: pip install 'mlpserve[server,cpu]' or 'mlpserve[server,gpu]'"
        )


def _model(
    version: Version,
    precision: Precision,
    session: ort.InferenceSession,
    index: int,
    max_batch: int,
    proof: Proof,
) -> LoadedModel:
    """A session with what runs it on the device that it is on."""
    image, provider = version.manifest.image, session.get_providers()[0]
    pixels, classes = image.rows * image.cols, len(version.manifest.labels)
    if provider != CUDA:
        bound = BoundRunner(session, max_batch, pixels, classes)
        return LoadedModel(version, precision, provider, max_batch, bound, proof)
    memory = cuda.CudaMemory(index)
    try:
        runner = DeviceRunner(session, max_batch, pixels, classes, memory)
    except Exception as error:  # of ONNX Runtime, see `_session`
        reason = f"{first_line(error)}; free some of its memory, or lower --max-batch"
        raise DeviceError(f"no buffers for {max_batch} images on GPU {index}: {reason}") from error
    return LoadedModel(version, precision, provider, max_batch, runner, proof, f"cuda:{index}", memory.pci_bus_id())


def _read(version: Version, role: FileRole) -> bytes:
    with waiting_for(f"the {FileRole.Name(role)} file of version {version.manifest.version}"):
        return version.read(role)


def _session(version: Version, role: FileRole, provider: str, threads: int, index: int) -> ort.InferenceSession:
    content = _read(version, role)
    graph_check.check(content, version.folder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are shared with the transport
    # Not by the file's first bytes: what the outline has read as ONNX is not to be read as something else.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    providers: list[Any] = [(CUDA, CUDA_OPTIONS | {"device_id": str(index)})] if provider == CUDA else [CPU]
    if provider == CUDA:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:
        # ONNX Runtime's exceptions share no base below Exception; any of them means that this file cannot be served.
        what = f"{version.folder}: ONNX Runtime cannot load the {FileRole.Name(role)} file"
        if provider != CUDA:
            raise ArtifactError(f"{what}: {first_line(error)}") from error
        reason = cuda_libraries.provider_problem() or first_line(error)
        raise DeviceError(f"{what} on GPU {index}: {reason}") from error
    if session.get_providers()[0] != provider:
        reason = cuda_libraries.provider_problem() or "ONNX Runtime does not say why"
        raise DeviceError(f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}: {reason}")
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
