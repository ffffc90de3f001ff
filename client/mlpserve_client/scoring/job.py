"""The scoring job: plan, go on or begin, run the missing parts, sum up.

Computed at least once, written exactly once: a part appears whole by a rename, its sidecar says that it is finished,
and `_SUCCESS` comes last. A job that is killed at any moment is run again with the same command.
"""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.errors import ModelNotFoundError, ServerError
from mlpserve_client.messages.predictions import ModelId
from mlpserve_client.pictures import MOST_PIXELS
from mlpserve_client.scoring import on_ray
from mlpserve_client.scoring.changed import refuse_changed
from mlpserve_client.scoring.endpoint import Endpoint
from mlpserve_client.scoring.errors import ScoringError, TooManyErrors
from mlpserve_client.scoring.files import File, Folder, expand
from mlpserve_client.scoring.inputs import Form, Input, open_inputs
from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_client.scoring.output import parts, plan
from mlpserve_client.scoring.output.evaluation import Ids, Tally
from mlpserve_client.scoring.output.plan import PLAN, SUCCESS, Part, Plan
from mlpserve_client.scoring.pipeline import Busy, Pipeline
from mlpserve_client.scoring.progress import Progress
from mlpserve_client.scoring.remote import is_remote

PART_ROWS = 131_072
PER_SERVER = 4  # requests in flight: one runs, one is on its way each way, and one more for when they are not even
FOLDERS = "folders"  # in place of a file with labels: a picture's folder is its label


@dataclass(frozen=True)
class Options:
    """How a job is run.

    Attributes:
        labels: IDX or .npy file with the true class ids of all rows, "folders", or "".
        column, label_column, slice_column: of Parquet files; "" to find it, for none, for none.
        raw: do not look for ink in pictures; None: as the model's training images were made.
        max_pixels: width times height of the largest picture that is decoded; larger ones are bad rows.
        batch: rows in one request.
        in_flight: most requests at a time; 0: four for each server that the endpoint names.
        part_rows: most rows in a part.
        max_errors: bad rows at which to give up; None: never.
        overwrite: remove what an earlier job left in the output.
        compare: a second version that is asked the same; 0 for none.
        compare_server: where it answers; "": the same server.
        ray: address of a Ray cluster; "" for none.
    """

    labels: str = ""
    column: str = ""
    label_column: str = ""
    slice_column: str = ""
    raw: bool | None = None
    max_pixels: int = MOST_PIXELS
    batch: int = 4096
    in_flight: int = 0
    part_rows: int = PART_ROWS
    max_errors: int | None = None
    overwrite: bool = False
    compare: int = 0
    compare_server: str = ""
    ray: str = ""


@dataclass(frozen=True)
class Summary:
    """What a job came to.

    Attributes:
        tally: of all rows, those of earlier runs included.
        labels: class labels by class id.
        model: what answered.
        compared: the second version; None for none.
        parts: of the whole job.
        parts_before: of them, finished by earlier runs.
        rows_now: rows scored by this run.
        seconds: wall-clock time of this run.
        busy: what this run was busy with; None on a cluster.
        in_flight: most requests that were in flight.
        refusals: times that the server was full or away.
    """

    tally: Tally
    labels: tuple[str, ...]
    model: ModelId
    compared: ModelId | None
    parts: int
    parts_before: int
    rows_now: int
    seconds: float
    busy: Busy | None
    in_flight: int
    refusals: int


def score(endpoint: Endpoint, inputs: list[str], output: str, options: Options | None = None) -> Summary:
    """Score every row of the inputs into a folder of Parquet files with one row for each.

    Args:
        endpoint: of the server that answers.
        inputs: files, folders and globs, local or URLs.
        output: the folder; new, or an earlier run's of the same job.
        options: how.

    Raises:
        ScoringError: an input, the labels or the output as a whole is wrong, or the output is another job's.
        InputChangedError: an input is no longer what it was when the job began.
        TooManyErrors: more rows are bad than allowed.
        ServerError: the server failed and kept failing; finished parts are kept.
    """
    options = options or Options()
    output = _outside(output, inputs)
    folder = Folder(output)
    with ExitStack() as open_files, folder.alone():
        for name in folder.names():
            if name.endswith(".unfinished"):  # of a job that was killed while it wrote
                folder.remove(name)
        if options.overwrite:
            _remove(folder)
        old = plan.begun(folder)
        info = _describe(endpoint, None if old is None else old["model"])
        form = _form(info, options)
        opened = open_inputs(inputs, form)
        for item in opened:
            open_files.callback(item.close)
        labels = File(options.labels) if options.labels and options.labels != FOLDERS else None
        truth = _truth(labels, opened, len(info.manifest.labels))
        whole, compared = _plan(endpoint, info, opened, form, options, labels)
        if old is None:
            folder.write(PLAN, json.dumps(whole.to_json(), indent=1).encode() + b"\n")
        else:
            plan.check_same(folder, old, whole)
        pinned = replace(endpoint, version=whole.model.version)
        if not options.in_flight:
            options = replace(options, in_flight=PER_SERVER * (endpoint.server.count(",") + 1))
        return _run(pinned, compared, whole, opened, truth, labels, folder, options)


def _outside(output: str, inputs: list[str]) -> str:
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


def _run(
    endpoint: Endpoint,
    compared: Endpoint | None,
    whole: Plan,
    opened: list[Input],
    truth: Ids | None,
    labels: File | None,
    folder: Folder,
    options: Options,
) -> Summary:
    names = folder.names()
    tallies: dict[int, Tally] = {}
    for part in whole.parts:
        tally = parts.finished(whole, part, folder, names)
        if tally is not None:
            tallies[part.number] = tally
    before = len(tallies)
    missing = [part for part in whole.parts if part.number not in tallies]
    rows_before = sum(tally.rows for tally in tallies.values())
    bad = sum(tally.bad_rows for tally in tallies.values())
    inputs = dict(enumerate(opened))
    pipeline = Pipeline(whole, inputs, folder, endpoint, compared, truth, options.batch, options.in_flight)
    started = time.perf_counter()
    with Progress(whole.rows, rows_before) as progress:

        def on_part(part: Part, tally: Tally) -> None:
            nonlocal bad
            tallies[part.number] = tally
            bad += tally.bad_rows
            if options.max_errors is not None and bad > options.max_errors:
                first = next(t.first_error for _, t in sorted(tallies.items()) if t.first_error)
                raise TooManyErrors(
                    f"{bad:,} bad rows, more than --max-errors {options.max_errors:,}; {first}. Finished parts are kept"
                )

        if options.ray:

            def on_remote_part(part: Part, tally: Tally) -> None:
                progress.add(tally.rows)
                on_part(part, tally)

            task = on_ray.Task(whole, folder.path, endpoint, compared, options.batch, options.in_flight)
            pipeline.changed = on_ray.run(options.ray, task, missing, truth, on_remote_part)
        elif missing:
            pipeline.run(missing, progress.add, on_part)
    seconds = time.perf_counter() - started
    refuse_changed(whole, opened, labels, pipeline.changed, tallies.keys())
    total = Tally()
    for _, tally in sorted(tallies.items()):
        total.merge(tally)
    present = folder.names()
    lost = [part.name for part in whole.parts if not {part.name, part.sidecar} <= present]
    if lost:
        raise ScoringError(f"{folder.path}: {lost[0]} is not there; the cluster's machines write to another folder")
    if SUCCESS not in names:
        facts = {"rows": total.rows, "bad_rows": total.bad_rows, "parts": len(whole.parts)}
        folder.write(SUCCESS, json.dumps(facts).encode() + b"\n")
    return Summary(
        tally=total,
        labels=whole.labels,
        model=whole.model,
        compared=whole.compared,
        parts=len(whole.parts),
        parts_before=before,
        rows_now=total.rows - rows_before,
        seconds=seconds,
        busy=None if options.ray else pipeline.busy,
        in_flight=pipeline.window.largest,
        refusals=pipeline.window.refusals,
    )


def _describe(endpoint: Endpoint, began_with: dict[str, Any] | None) -> GetModelResponse:
    """The model that is to answer: of a job that goes on, the one that it began with, while the server still has it."""
    version = endpoint.version
    if began_with is not None and not version:
        version = int(began_with["version"])
    with endpoint.client(version) as client:
        try:
            return client.wait_ready(endpoint.timeout)
        except ModelNotFoundError:
            if began_with is None or endpoint.version:
                raise
    with endpoint.client() as client:
        return client.wait_ready(endpoint.timeout)


def _form(info: GetModelResponse, options: Options) -> Form:
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
    )


def _truth(labels: File | None, opened: list[Input], classes: int) -> Ids | None:
    if labels is None:
        return None
    rows = sum(item.rows for item in opened)
    truth = read_labels(Path(labels.path), rows)
    if len(truth) and not 0 <= int(truth.min()) <= int(truth.max()) < classes:
        raise ScoringError(
            f"{labels.path}: labels from {truth.min()} to {truth.max()}; the model's classes are 0 to {classes - 1}"
        )
    return truth


def _plan(
    endpoint: Endpoint,
    info: GetModelResponse,
    opened: list[Input],
    form: Form,
    options: Options,
    labels: File | None,
) -> tuple[Plan, Endpoint | None]:
    compared: Endpoint | None = None
    other: ModelId | None = None
    if options.compare:
        compared = replace(endpoint, server=options.compare_server or endpoint.server, version=options.compare)
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
    )
    return whole, compared


def _second(endpoint: Endpoint, first: GetModelResponse) -> ModelId:
    with endpoint.client() as client:
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


def _remove(folder: Folder) -> None:
    """What a job has written, the plan last: until then a job that is killed here can be told apart."""
    names = folder.names()
    if PLAN not in names:
        return
    for name in sorted(names):
        if name == SUCCESS or name.startswith(("part-", "_part-", ".part-", "._part-")):
            folder.remove(name)
    folder.remove(PLAN)
