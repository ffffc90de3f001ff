"""What a job begins with: the model that answers, what images must become, and the plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.client import Client
from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.errors import ModelNotFoundError, ServerError
from mlpserve_client.messages.predictions import ModelId
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File, expand
from mlpserve_client.scoring.inputs import Form, Input
from mlpserve_client.scoring.inputs.rows import Kept
from mlpserve_client.scoring.options import FOLDERS, Options
from mlpserve_client.scoring.output import plan
from mlpserve_client.scoring.output.columns import refuse_doubled
from mlpserve_client.scoring.output.plan import Plan
from mlpserve_client.scoring.remote import is_remote


def outside(output: str, inputs: list[str]) -> str:
    """The output's absolute path.

    Raises:
        ScoringError: it lies in an input, which would have changed when the job goes on.
    """
    if is_remote(output):
        return output
    path = Path(output).absolute()
    for pattern in inputs:
        for found in expand(pattern):
            if not is_remote(found) and Path(found).is_dir() and path.resolve().is_relative_to(Path(found).resolve()):
                raise ScoringError(f"{output}: lies in the input {found}; name a folder outside of it")
    return str(path)


def describe(endpoint: Endpoint, began_with: dict[str, Any] | None) -> GetModelResponse:
    """The model that is to answer: of a job that goes on, the one that it began with, while the server still has it."""
    version = endpoint.version
    if began_with is not None and not version:
        version = int(began_with["version"])
    with Client(endpoint, version=version) as client:
        try:
            return client.wait_ready(client.retry.timeout)
        except ModelNotFoundError:
            if began_with is None or endpoint.version:
                raise
    with Client(endpoint) as client:
        return client.wait_ready(client.retry.timeout)


def form(info: GetModelResponse, options: Options) -> Form:
    """What images must become for the model."""
    image = info.manifest.image
    raw = options.raw
    if raw is None:
        raw = image.preparation != Preparation.PREPARATION_CENTRED_INK
    return Form(
        image.rows,
        image.cols,
        raw,
        options.column,
        options.label_column,
        options.slice_column,
        folders_are_labels=options.labels == FOLDERS,
        max_pixels=options.max_pixels,
        label_numbers=options.label_numbers,
        keep=options.keep,
    )


def planned(
    endpoint: Endpoint,
    info: GetModelResponse,
    opened: list[Input],
    form: Form,
    options: Options,
    labels: File | None,
) -> tuple[Plan, Endpoint | None]:
    """The plan, and the endpoint of the second version.

    Args:
        endpoint: of the server that answers.
        info: the model that answers.
        opened: the inputs.
        form: what their images become.
        options: of the job.
        labels: the file with the true labels; None for none.

    Raises:
        ScoringError: the second version does not answer, or is of another kind.
    """
    compared: Endpoint | None = None
    other: ModelId | None = None
    if options.compare:
        compared = replace(endpoint, target=options.compare_server or endpoint.target, version=options.compare)
        other = _second(compared, info)
    whole = Plan(
        inputs=tuple((item.path, item.rows, item.fingerprint) for item in opened),
        parts=plan.cut(opened, options.part_rows),
        model=_id(info),
        compared=other,
        labels=tuple(info.manifest.labels),
        form=form,
        named=any(item.named for item in opened),
        part_rows=options.part_rows,
        truth="" if labels is None else labels.fingerprint,
        kept=_kept(opened, options.keep),
        old_columns=options.old_columns,
    )
    refuse_doubled(whole)
    return whole, compared


def _kept(opened: list[Input], keep: tuple[str, ...]) -> Kept:
    """The columns that go along with the answers, which are the same in all inputs.

    Raises:
        ScoringError: one has another type in another input.
    """
    if not keep:
        return ()
    first = opened[0]
    for item in opened[1:]:
        for (name, kind), (_, other) in zip(first.kept, item.kept, strict=True):
            if kind != other:
                raise ScoringError(
                    f"--keep {name}: {kind} in {first.path} and {other} in {item.path}; a folder of answers has one "
                    "type for each column. Score them into two folders, or write one of them again"
                )
    return first.kept


def _second(endpoint: Endpoint, first: GetModelResponse) -> ModelId:
    with Client(endpoint, retries=0) as client:
        try:
            info = client.get_model()
        except ModelNotFoundError as error:
            raise ScoringError(
                f"--compare {endpoint.version}: {error}. Start a server for it (mlpserve-server --version "
                f"{endpoint.version} --listen 127.0.0.1:50052) and give --compare-server"
            ) from error
        except ServerError as error:
            raise ScoringError(f"--compare {endpoint.version}: {error}") from error
    if list(info.manifest.labels) != list(first.manifest.labels) or info.manifest.image != first.manifest.image:
        raise ScoringError(f"--compare {endpoint.version}: it has other labels or takes other images")
    return _id(info)


def _id(info: GetModelResponse) -> ModelId:
    return ModelId(info.model.name, info.model.version, info.model.digest)
