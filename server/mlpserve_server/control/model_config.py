"""What Triton's ModelConfig and ModelStatistics say of a version, for its clients and tools."""

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.classifier_pb2 import ServingInfo
from mlpserve_server.calls import TRAFFIC
from mlpserve_server.catalog import Served
from mlpserve_server.codecs.model_infer import INPUT, OUTPUTS
from mlpserve_server.models.loading import ROLES
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.observe.statistics import Total

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"  # what Triton calls an ONNX file in ONNX Runtime
DATA_TYPES = {"UINT8": oip.TYPE_UINT8, "INT32": oip.TYPE_INT32, "FP32": oip.TYPE_FP32}
GPU = "cuda:"


def dims(name: str, model: LoadedModel) -> list[int]:
    """The shape of one image's output."""
    return [model.classes] if name == "probabilities" else []


def config(model: LoadedModel, info: ServingInfo) -> oip.ModelConfig:
    """A version's configuration.

    Args:
        model: the version.
        info: how it is run.
    """
    role = ROLES[model.precision]
    described = oip.ModelConfig(
        name=model.ref.name,
        platform=PLATFORM,
        backend=BACKEND,
        version_policy=oip.ModelVersionPolicy(latest=oip.ModelVersionPolicy.Latest(num_versions=1)),
        max_batch_size=info.max_request_images,
        default_model_filename=next(file.path for file in model.version.manifest.files if file.role == role),
        dynamic_batching=oip.ModelDynamicBatching(
            preferred_batch_size=[info.max_batch_images],
            preserve_ordering=False,
            priority_levels=len(TRAFFIC),
            default_priority_level=1,
        ),
        model_transaction_policy=oip.ModelTransactionPolicy(decoupled=False),
    )
    described.input.add(name=INPUT, data_type=oip.TYPE_UINT8, dims=[model.pixels])
    for name, datatype in OUTPUTS.items():
        # Triton has no tensors without dimensions; it writes a single value as [1] reshaped, its clients read [].
        described.output.add(name=name, data_type=DATA_TYPES[datatype], dims=dims(name, model))
    group = described.instance_group.add(name=f"{model.ref.name}_0", count=2 if model.concurrent else 1)
    group.kind = oip.ModelInstanceGroup.KIND_CPU
    if model.device.startswith(GPU):
        group.kind = oip.ModelInstanceGroup.KIND_GPU
        group.gpus.append(int(model.device.removeprefix(GPU)))
    for key, value in (
        ("digest", model.ref.digest),
        ("precision", model.precision_name),
        ("provider", info.provider),
        ("transport", info.transport),
    ):
        described.parameters[key].string_value = value
    return described


def statistics(served: Served) -> oip.ModelStatistics:
    """How often and for how long a version has answered."""
    counts, ref = served.statistics, served.model.ref
    answered = counts.requests
    described = oip.ModelStatistics(
        name=ref.name,
        version=str(ref.version),
        last_inference=round(counts.last * 1000),
        inference_count=counts.images,
        inference_stats=oip.InferStatistics(
            success=_duration(answered.times, counts.seconds),
            fail=_duration(counts.failed, counts.failed_seconds),
            queue=_duration(answered.times, counts.queue_seconds),
            **_spans(answered),
        ),
    )
    for size, total in sorted(counts.by_size.copy().items()):
        described.batch_stats.add(batch_size=size, **_spans(total))
        described.execution_count += total.times
    return described


def _spans(total: Total) -> dict[str, oip.StatisticDuration]:
    return {
        "compute_input": _duration(total.times, total.before),
        "compute_infer": _duration(total.times, total.run),
        "compute_output": _duration(total.times, total.after),
    }


def _duration(count: int, seconds: float) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=count, ns=max(0, round(seconds * 1e9)))
