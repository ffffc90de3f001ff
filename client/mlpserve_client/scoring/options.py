"""How a job is run."""

from dataclasses import dataclass

from mlpserve_client.pictures import MOST_PIXELS

PART_ROWS = 131_072
PER_SERVER = 4  # requests in flight: one runs, one is on its way each way, and one more for when they are not even
FOLDERS = "folders"  # in place of a file with labels: a picture's folder is its label


@dataclass(frozen=True)
class Options:
    """How a job is run.

    Attributes:
        labels: IDX, .npy or .csv file with the true labels of all rows, "folders", or "".
        label_numbers: what numbers among true labels are, "names" or "ids" of classes; "": refuse what could be both.
        column, label_column, slice_column: of Parquet files; "" to find it, for none, for none.
        keep: columns of Parquet files that go along with the answers.
        old_columns: write the columns class_id, label, target and other_class_id of version 0.1 too.
        raw: do not look for ink in pictures; None: as the model's training images were made.
        max_pixels: width times height of the largest picture that is decoded; larger ones are bad rows.
        batch: rows in one request.
        in_flight: most requests at a time; 0: four for each server that the endpoint names.
        part_rows: most rows in a part.
        max_errors: bad rows at which to give up; None: never.
        overwrite: remove what an earlier job left in the output.
        append: go on with the job in the output, with the inputs that are new to it behind its own.
        compare: a second version that is asked the same; 0 for none.
        compare_server: where it answers; "": the same server.
        quiet: say nothing about progress on standard error.
        ray: address of a Ray cluster; "" for none.
    """

    labels: str = ""
    label_numbers: str = ""
    column: str = ""
    label_column: str = ""
    slice_column: str = ""
    keep: tuple[str, ...] = ()
    old_columns: bool = False
    raw: bool | None = None
    max_pixels: int = MOST_PIXELS
    batch: int = 4096
    in_flight: int = 0
    part_rows: int = PART_ROWS
    max_errors: int | None = None
    overwrite: bool = False
    append: bool = False
    compare: int = 0
    compare_server: str = ""
    ray: str = ""
    quiet: bool = False
