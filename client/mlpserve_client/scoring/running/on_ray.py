"""The same parts as tasks of a Ray cluster. A task that is lost with its machine is run again, by Ray.

A part's file and sidecar appear by the same renames, so two tasks that run the same part write the same bytes.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs import Form, Input, open_input
from mlpserve_client.scoring.output.evaluation import Tally
from mlpserve_client.scoring.output.plan import Part
from mlpserve_client.scoring.remote import MissingError
from mlpserve_client.scoring.running.pipeline import Pipeline
from mlpserve_client.scoring.running.task import Task
from mlpserve_client.scoring.truth import Truth

RETRIES = 10  # times that a task's machine may be lost
AHEAD = 2  # tasks waiting for each CPU


MOST_OPENED = 8  # inputs that a worker holds open, as it runs many parts

_opened: dict[tuple[str, str, Form], Input] = {}


def run(
    address: str,
    task: Task,
    parts: list[Part],
    truth: Truth | None,
    on_part: Callable[[Part, Tally], object],
) -> dict[int, str]:
    """Score parts on a cluster.

    Args:
        address: of the cluster, "auto", or "local" for one on this machine.
        task: the job; inputs and output must be reachable from every machine.
        parts: which ones.
        truth: true class ids of all rows; None for none.
        on_part: told of each part that is written.

    Returns:
        What has changed, by the number of the input; the parts that rest on it are not written.

    Raises:
        ScoringError: Ray is not installed or not reachable, or a part failed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ScoringError("--ray needs: pip install 'mlpserve[ray]'") from error
    # Ray says on standard output what has happened to its workers; there our own summary goes.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ScoringError(f"--ray {address}: {reason}; expected host:port, auto, or local") from error
        try:
            return _run_all(task, parts, truth, on_part)
        finally:
            ray.shutdown()


def _run_all(
    task: Task, parts: list[Part], truth: Truth | None, on_part: Callable[[Part, Tally], object]
) -> dict[int, str]:
    """See `run`; on a cluster that this process has joined."""
    import ray

    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(_score_part)
    shared = ray.put(task)
    cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    most = max(1, int(cpus)) * AHEAD
    waiting: dict[Any, Part] = {}
    left = list(reversed(parts))
    changed: dict[int, str] = {}
    while left or waiting:
        while left and len(waiting) < most:
            part = left.pop()
            if part.input in changed:
                continue
            own = None if truth is None else truth.part(part.first_row, part.stop - part.start)
            waiting[remote.remote(shared, part, own)] = part
        if not waiting:
            continue
        done, _ = ray.wait(list(waiting), num_returns=1)
        part = waiting.pop(done[0])
        try:
            tally, words = ray.get(done[0])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            reason = (str(cause).strip() or type(cause).__name__).splitlines()[-1]
            raise ScoringError(f"part {part.number} on the cluster: {reason}") from error
        if words:
            changed.setdefault(part.input, words)
        else:
            on_part(part, Tally.from_json(tally))
    return changed


def _score_part(task: Task, part: Part, truth: Truth | None) -> tuple[dict[str, Any], str]:
    """Score one part in a worker of the cluster: its tally, or what has changed of its input."""
    source, words = _input(task, part)
    if source is None:
        return {}, words
    tallies: list[Tally] = []
    pipeline = Pipeline(task, {part.input: source}, truth)
    pipeline.run([part], lambda rows: None, lambda part, tally: tallies.append(tally))
    words = pipeline.changed.get(part.input, "")
    return ({} if words else tallies[0].to_json()), words


def _input(task: Task, part: Part) -> tuple[Input | None, str]:
    """A part's input, or what is other about it than when the job began."""
    path, rows, fingerprint = task.plan.inputs[part.input]
    key = (path, fingerprint, task.plan.form)
    if key not in _opened:
        try:
            source = open_input(path, task.plan.form)
        except MissingError:
            return None, "it is not there on every machine of the cluster"
        if (source.rows, source.fingerprint) != (rows, fingerprint):
            source.close()
            return None, "a machine of the cluster finds another file"
        while len(_opened) >= MOST_OPENED:
            _opened.pop(next(iter(_opened))).close()
        _opened[key] = source
    return _opened[key], ""
