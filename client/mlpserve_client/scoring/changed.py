"""Inputs that changed while a job ran: which parts are lost, and what to do."""

from collections.abc import Collection, Mapping, Sequence

from mlpserve_client.scoring.errors import InputChangedError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs import Input
from mlpserve_client.scoring.output.plan import Plan

ADVICE = (
    "There is no _SUCCESS; finished parts are kept, each of what its input held when the job began. Put back what it "
    "held then and run the same command, or score what it holds now into another folder or with --overwrite"
)
SHOWN = 5  # parts that are named one by one


def refuse_changed(
    plan: Plan, inputs: Sequence[Input], labels: File | None, seen: Mapping[int, str], finished: Collection[int]
) -> None:
    """Check every input again at the end of a job.

    Args:
        plan: of the job.
        inputs: opened, as the plan lists them.
        labels: the file with the true labels; None for none.
        seen: changes noticed while the job ran, by the number of the input.
        finished: numbers of the finished parts.

    Raises:
        InputChangedError: an input or the labels file changed after the job began.
    """
    changes = dict(seen)
    for number, item in enumerate(inputs):
        words = changes.get(number) or item.changed()
        if words:
            changes[number] = words
    said = [_said(plan, number, words, finished) for number, words in sorted(changes.items())]
    if labels is not None and (words := labels.changed()):
        said.append(f"{labels.path} has changed while the job ran ({words}); the true labels are those it held before")
    if said:
        raise InputChangedError(f"{'; '.join(said)}. {ADVICE}")


def _said(plan: Plan, number: int, words: str, finished: Collection[int]) -> str:
    missing = [part.name for part in plan.parts if part.input == number and part.number not in finished]
    if not missing:
        lost = "its parts had been written before"
    elif len(missing) <= SHOWN:
        lost = f"not written: {', '.join(missing)}"
    else:
        lost = f"not written: {missing[0]} to {missing[-1]}, {len(missing):,} parts"
    return f"{plan.inputs[number][0]} has changed while the job ran ({words}); {lost}"
