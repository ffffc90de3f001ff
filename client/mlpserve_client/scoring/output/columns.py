"""The columns of the answers.

row int64 (number in the whole job), input string (path as it was given), file string (of pictures); the columns of
--keep in their own types; predicted string (a class's name), score float32; with true labels true string; error
string, model_version int64, model_digest string; with a second version other_predicted string, other_score float32.

With --old-columns also those of version 0.1: class_id int32, label string, with true labels target int32, with a second
version other_class_id int32.

A bad row has an error, and nulls in place of an answer.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.output.plan import Plan


def own(plan: Plan) -> list[str]:
    """The columns of a job's parts but those that are kept of the inputs, in their order."""
    compared = plan.compared is not None
    columns = {
        "row": True,
        "input": True,
        "file": plan.named,
        "predicted": True,
        "score": True,
        "true": plan.labelled,
        "error": True,
        "model_version": True,
        "model_digest": True,
        "other_predicted": compared,
        "other_score": compared,
        "class_id": plan.old_columns,
        "label": plan.old_columns,
        "target": plan.old_columns and plan.labelled,
        "other_class_id": plan.old_columns and compared,
    }
    return [name for name, there in columns.items() if there]


def refuse_doubled(plan: Plan) -> None:
    """Refuse columns to keep whose names the answers have already; DuckDB and Spark do not tell letters' case apart.

    Raises:
        ScoringError: names the column.
    """
    taken, seen = set(own(plan)), set()
    for name, _ in plan.kept:
        lower = name.lower()
        if lower in taken:
            raise ScoringError(
                f"--keep {name}: the answers have a column {lower!r} of their own; rename it in the input, or join "
                "input and answers by `row`"
            )
        if lower in seen:
            raise ScoringError(f"--keep {name}: there are two columns of that name, but for capital letters")
        seen.add(lower)


def table(plan: Plan, columns: Mapping[str, Callable[[], Any]], kept: Any) -> pa.Table:
    """The columns that the plan has, in their order; those of the inputs stand behind what tells the rows apart.

    Args:
        plan: of the job.
        columns: what makes each column of the answers that may be asked for.
        kept: Arrow table of the inputs' columns; None for none.
    """
    chosen: dict[str, Any] = {}
    for name in own(plan):
        if name == "predicted" and kept is not None:
            chosen |= {each: kept.column(each) for each in kept.column_names}
        chosen[name] = columns[name]()
    return pa.table(chosen)
