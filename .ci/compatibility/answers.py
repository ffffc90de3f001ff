"""The answers of `mlpserve score`: the columns of its Parquet files, and the names of the files beside them."""

import tempfile
from pathlib import Path

from compatibility.facts import Facts, Subject, write


def describe() -> str:
    """Every column that a part may have, with its Arrow type, read from a part with all of them."""
    import pyarrow.parquet as pq

    from mlpserve_client.messages.predictions import ModelId
    from mlpserve_client.scoring.files import Folder
    from mlpserve_client.scoring.inputs.rows import Form
    from mlpserve_client.scoring.output.parts import PartWriter
    from mlpserve_client.scoring.output.plan import PLAN, SUCCESS, Part, Plan

    model = ModelId("name", 1, "digest")
    form = Form(28, 28, raw=False, label_column="label")
    part = Part(0, 0, 0, 0, 0)
    facts: Facts = {"file job": PLAN, "file finished": SUCCESS, "file part": part.name, "file sidecar": part.sidecar}
    with tempfile.TemporaryDirectory() as folder:
        for flag, old_columns in (("", False), ("--old-columns ", True)):
            plan = Plan(
                inputs=(("input", 0, ""),), parts=(part,), model=model, compared=model, labels=("0",), form=form,
                named=True, part_rows=1, truth="", old_columns=old_columns,
            )  # fmt: skip
            PartWriter(plan, part, Folder(folder)).write()
            for column in pq.read_schema(Path(folder) / part.name):
                if column.name not in facts:
                    facts[flag + column.name] = str(column.type)
    return write("The answers of `mlpserve score`: its files, and their columns with Arrow's types.", facts)


def names(key: str) -> tuple[str, ...]:
    """A column by its name; what a flag adds by the flag."""
    return (key.split()[-1], key.split()[0])


SUBJECT = Subject("answers.txt", "the answers of `mlpserve score`", describe, names)
