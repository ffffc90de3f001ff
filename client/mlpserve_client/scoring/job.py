"""The scoring job: plan, go on or begin, run the missing parts, sum up.

Computed at least once, written exactly once: a part appears whole by a rename, its sidecar says that it is finished,
and `_SUCCESS` comes last. A job that is killed at any moment is run again with the same command.
"""

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from mlpserve.terminal import during
from mlpserve_client.connection.endpoint import Endpoint
from mlpserve_client.connection.retries import JOB_TIMEOUT
from mlpserve_client.scoring import beginning
from mlpserve_client.scoring.appending import open_more
from mlpserve_client.scoring.changed import refuse_changed
from mlpserve_client.scoring.errors import ScoringError, TooManyErrors
from mlpserve_client.scoring.files import File, Folder
from mlpserve_client.scoring.inputs import Input, find, open_inputs
from mlpserve_client.scoring.inputs.meaning import Meaning
from mlpserve_client.scoring.options import FOLDERS, PER_SERVER, Options
from mlpserve_client.scoring.output import parts, plan
from mlpserve_client.scoring.output.evaluation import Tally
from mlpserve_client.scoring.output.plan import PLAN, SUCCESS, Part, Plan
from mlpserve_client.scoring.running import on_ray
from mlpserve_client.scoring.running.pipeline import Pipeline
from mlpserve_client.scoring.running.progress import Progress
from mlpserve_client.scoring.running.task import Task
from mlpserve_client.scoring.summary import Summary
from mlpserve_client.scoring.truth import Truth, read_truth


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
    if options.append and options.overwrite:
        raise ScoringError("--append keeps what --overwrite removes; give one of them")
    if endpoint.timeout is None:
        endpoint = replace(endpoint, timeout=JOB_TIMEOUT)
    folder = Folder(beginning.outside(output, inputs))
    with ExitStack() as open_files, folder.alone():
        _tidy(folder, options)
        old = plan.begun(folder)
        more = old if options.append else None
        info = beginning.describe(endpoint, None if old is None else old["model"])
        form = beginning.form(info, options)
        with during("Looking at the inputs", shown=not options.quiet):
            named = find(inputs)
            opened = open_inputs(named, form) if more is None else open_more(more, named, form, folder.names())
        for item in opened:
            open_files.callback(item.close)
        labels = File(options.labels) if options.labels and options.labels != FOLDERS else None
        truth = None
        if labels is not None:
            meaning = Meaning(info.manifest.labels, options.label_numbers)
            truth = read_truth(labels.path, sum(item.rows for item in opened), meaning)
        whole, compared = beginning.planned(endpoint, info, opened, form, options, labels)
        _settle(folder, old, whole, append=options.append)
        pinned = replace(endpoint, version=whole.model.version)
        in_flight = options.in_flight or PER_SERVER * (endpoint.target.count(",") + 1)
        task = Task(whole, folder.path, pinned, compared, options.batch, in_flight)
        try:
            summary = _run(task, opened, truth, labels, options)
        finally:
            if PLAN not in folder.names():  # somebody has removed it; without it the same command could not go on
                _write_plan(folder, whole)
    return replace(summary, passed_over=named.passed_over)


def _write_plan(folder: Folder, whole: Plan) -> None:
    folder.write(PLAN, json.dumps(whole.to_json(), indent=1).encode() + b"\n")


def _settle(folder: Folder, old: dict[str, Any] | None, whole: Plan, *, append: bool) -> None:
    """Write the plan, or find that what is there is of the same job.

    Raises:
        ScoringError: it is another job's.
    """
    new = json.loads(json.dumps(whole.to_json()))
    if old is not None:
        if append:
            plan.check_more(folder, old, whole)
        else:
            plan.check_same(folder, old, new)
    if new != old:
        folder.remove(SUCCESS)  # before there is a plan that it is not true of
        _write_plan(folder, whole)


def _run(task: Task, opened: list[Input], truth: Truth | None, labels: File | None, options: Options) -> Summary:
    """Score the parts that are not finished."""
    folder = Folder(task.output)
    with during("Checking the parts that are finished", shown=not options.quiet):
        finished = _Finished(task.plan, folder, options.max_errors, truth)
    before, rows_before = len(finished.tallies), finished.rows
    missing = [part for part in task.plan.parts if part.number not in finished.tallies]
    if missing:
        folder.remove(SUCCESS)  # of an earlier run, before a part of it was lost
    pipeline = Pipeline(task, dict(enumerate(opened)), truth)
    started = time.perf_counter()
    with Progress(task.plan.rows, rows_before, shown=not options.quiet) as progress:
        if options.ray:

            def on_part(part: Part, tally: Tally) -> None:
                progress.add(tally.rows)
                finished.add(part, tally)

            pipeline.changed = on_ray.run(options.ray, task, missing, truth, on_part)
        elif missing:
            pipeline.run(missing, progress.add, finished.add)
    seconds = time.perf_counter() - started
    with during("Checking that no input has changed", shown=not options.quiet):
        refuse_changed(task.plan, opened, labels, pipeline.changed, finished.tallies.keys())
    total = finished.total()
    _succeed(folder, task.plan, total, everywhere=bool(options.ray))
    return Summary(
        tally=total,
        labels=task.plan.labels,
        model=task.plan.model,
        compared=task.plan.compared,
        parts=len(task.plan.parts),
        parts_before=before,
        rows_now=total.rows - rows_before,
        seconds=seconds,
        busy=None if options.ray else pipeline.busy,
        in_flight=pipeline.in_flight,
        refusals=pipeline.refusals,
    )


class _Finished:
    """What the finished parts came to, those of earlier runs included.

    Args:
        whole: the job's plan.
        folder: the output.
        max_errors: bad rows at which to give up; None: never.
        truth: true class ids of all rows from a file; None for none.

    Attributes:
        tallies: by the number of the part.
    """

    def __init__(self, whole: Plan, folder: Folder, max_errors: int | None, truth: Truth | None) -> None:
        names = folder.names()
        found = {part.number: parts.finished(whole, part, folder, names, truth) for part in whole.parts}
        self.tallies = {number: tally for number, tally in found.items() if tally is not None}
        self._max_errors = max_errors
        self._bad = sum(tally.bad_rows for tally in self.tallies.values())

    @property
    def rows(self) -> int:
        """Of all finished parts."""
        return sum(tally.rows for tally in self.tallies.values())

    def add(self, part: Part, tally: Tally) -> None:
        """Count a part that has been written.

        Raises:
            TooManyErrors: more rows are bad than allowed.
        """
        self.tallies[part.number] = tally
        self._bad += tally.bad_rows
        if self._max_errors is not None and self._bad > self._max_errors:
            raise TooManyErrors(
                f"{self._bad:,} bad rows, more than --max-errors {self._max_errors:,}; {self.total().first_error}. "
                "Finished parts are kept"
            )

    def total(self) -> Tally:
        """All of them, added up in the order of the parts."""
        total = Tally()
        for _, tally in sorted(self.tallies.items()):
            total.merge(tally)
        return total


def _tidy(folder: Folder, options: Options) -> None:
    """Remove what a killed job was writing, and with `overwrite` all that an earlier one wrote."""
    for name in folder.names():
        if name.endswith(".unfinished"):
            folder.remove(name)
    if options.overwrite:
        _remove(folder)


def _remove(folder: Folder) -> None:
    """What a job has written, the plan last: until then a job that is killed here can be told apart."""
    names = folder.names()
    if PLAN not in names:
        return
    for name in sorted(names):
        if name == SUCCESS or name.startswith(("part-", "_part-", ".part-", "._part-")):
            folder.remove(name)
    folder.remove(PLAN)


def _succeed(folder: Folder, whole: Plan, total: Tally, *, everywhere: bool) -> None:
    """Say that the job is finished.

    Args:
        folder: the output.
        whole: the plan.
        total: of all parts.
        everywhere: other machines have written too.

    Raises:
        ScoringError: a part is not there.
    """
    names = folder.names()
    lost = [part.name for part in whole.parts if not {part.name, part.sidecar} <= names]
    if lost:
        others = ", or the cluster's machines write to another folder" if everywhere else ""
        raise ScoringError(
            f"{folder.path}: {lost[0]} and {len(lost) - 1:,} more of {len(whole.parts):,} parts are not there: "
            f"somebody has removed them while the job ran{others}. Run the same command again to score what is missing"
        )
    if SUCCESS not in names:
        facts = {"rows": total.rows, "bad_rows": total.bad_rows, "parts": len(whole.parts)}
        folder.write(SUCCESS, json.dumps(facts).encode() + b"\n")
