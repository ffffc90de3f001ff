"""`mlpserve score`: flags of a scoring job, and its summary for people and for programs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mlpserve.files import folders
from mlpserve.shown import shown
from mlpserve_client.commands.flags import WITH_BAD_ROWS, add_preparation, at_least_zero, positive

if TYPE_CHECKING:
    from mlpserve_client.connection.endpoint import Endpoint
    from mlpserve_client.scoring import Summary

SHOWN_CLASSES = 20  # most classes of a confusion matrix that is printed
SHOWN = 10  # reasons, slices and disagreements printed

EPILOG = """OUTPUT becomes a folder of Parquet files with one row for each input row; a row that cannot be
scored has an error in place of an answer. The job is resumable and idempotent: run the same command
again after any interruption, and it skips finished parts and ends with bit-identical files.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 an input changed meanwhile,
4 done with bad rows, 130 interrupted."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    score = commands.add_parser(
        "score",
        help="score files and folders into a folder of Parquet files",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="IDX (.gz or not), .npy, .npz, .parquet, .tar, or a folder of them and of pictures; globs and URLs too",
    )
    score.add_argument("output", metavar="OUTPUT", help="folder or URL to write to")
    data = score.add_argument_group("Columns and labels")
    data.add_argument(
        "--labels",
        default="",
        metavar="FILE|folders",
        help="true classes: an IDX, .npy or .csv file, or 'folders' if each picture's folder is its class",
    )
    data.add_argument(
        "--label-numbers",
        choices=("names", "ids"),
        default="",
        help="what a number among true labels is, where it could be a class's name and another one's class id",
    )
    data.add_argument("--column", default="", metavar="NAME", help="Parquet column with the images")
    data.add_argument("--label-column", default="", metavar="NAME", help="Parquet column with the true classes")
    data.add_argument(
        "--slice-column", default="", metavar="NAME", help="report accuracy for each value of this column"
    )
    data.add_argument(
        "--keep",
        type=columns,
        default=(),
        metavar="NAME,...",
        help="Parquet columns that go along with the answers: id,shop",
    )
    data.add_argument(
        "--old-columns",
        action="store_true",
        help="write class_id, label, target and other_class_id too, as version 0.1 did; gone in the next version",
    )
    shadow = score.add_argument_group("Comparing two versions")
    shadow.add_argument(
        "--compare",
        type=positive,
        default=0,
        metavar="N",
        help="score with version N as well and report where they differ",
    )
    shadow.add_argument(
        "--compare-server", default="", metavar="HOST:PORT", help="server of version N (default: the same server)"
    )
    running = score.add_argument_group("Throughput and resuming")
    running.add_argument(
        "--batch", type=positive, default=4096, metavar="ROWS", help="rows per request (default: 4096)"
    )
    running.add_argument(
        "--in-flight",
        type=at_least_zero,
        default=0,
        metavar="N",
        help="most requests in flight; 0 allows four per server (default: 0)",
    )
    running.add_argument(
        "--part-rows",
        type=positive,
        default=131_072,
        metavar="ROWS",
        help="most rows per output file (default: 131072)",
    )
    running.add_argument("--max-errors", type=at_least_zero, metavar="N", help="stop after more than N bad rows")
    again = running.add_mutually_exclusive_group()
    again.add_argument(
        "--append",
        action="store_true",
        help="add the inputs that are new to the job in OUTPUT, and score nothing twice",
    )
    again.add_argument("--overwrite", action="store_true", help="delete an earlier job's output and start over")
    running.add_argument(
        "--ray", default="", metavar="ADDRESS", help="run on a Ray cluster: its address, auto, or local"
    )
    running.add_argument("--quiet", action="store_true", help="no bar and no lines about progress")
    running.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_preparation(score)
    score.set_defaults(job=run)


def run(endpoint: Endpoint, arguments: argparse.Namespace) -> int:
    """Run the job, print what it came to, and return the exit code."""
    from mlpserve_client.scoring import Options, score

    options = Options(
        labels=arguments.labels,
        label_numbers=arguments.label_numbers,
        column=arguments.column,
        label_column=arguments.label_column,
        slice_column=arguments.slice_column,
        keep=arguments.keep,
        old_columns=arguments.old_columns,
        raw=arguments.raw,
        max_pixels=arguments.max_pixels,
        batch=arguments.batch,
        in_flight=arguments.in_flight,
        part_rows=arguments.part_rows,
        max_errors=arguments.max_errors,
        overwrite=arguments.overwrite,
        append=arguments.append,
        compare=arguments.compare,
        compare_server=arguments.compare_server,
        ray=arguments.ray,
        quiet=arguments.quiet,
    )
    summary = score(endpoint, arguments.inputs, arguments.output, options)
    if arguments.json:
        print(json.dumps(_values(summary, arguments.output)))
    else:
        _print(summary, arguments.output)
    tally = summary.tally
    if tally.bad_rows:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.reasons.most_common(SHOWN))
        print(f"mlpserve: {tally.bad_rows:,} bad rows ({reasons}); first: {shown(tally.first_error)}", file=sys.stderr)
        return WITH_BAD_ROWS
    return 0


def columns(text: str) -> tuple[str, ...]:
    """Names of columns, separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names of columns separated by commas, as id,shop")
    return names


def _values(summary: Summary, output: str) -> dict[str, Any]:
    tally = summary.tally
    return {
        "rows": tally.rows,
        "bad_rows": tally.bad_rows,
        "bad_rows_by_reason": dict(tally.reasons),
        "first_error": tally.first_error,
        "first_pages": tally.first_pages,
        "passed_over": folders.counted(summary.passed_over),
        "parts": summary.parts,
        "parts_before": summary.parts_before,
        "rows_now": summary.rows_now,
        "seconds": summary.seconds,
        "rows_per_second": summary.rows_now / summary.seconds if summary.seconds else 0.0,
        "busy_seconds": _busy(summary),
        "in_flight": summary.in_flight,
        "refusals": summary.refusals,
        "model": vars(summary.model),
        "answers": {label: tally.classes.get(str(number), 0) for number, label in enumerate(summary.labels)},
        "accuracy": tally.accuracy(),
        "calibration_error": tally.calibration_error(),
        "confusion": tally.matrix(len(summary.labels)).tolist() if tally.labelled else None,
        "slices": {value: {"rows": rows, "accuracy": right / rows} for value, (rows, right) in tally.slices.items()},
        "compared": None
        if summary.compared is None
        else {
            "model": vars(summary.compared),
            "disagreements": sum(tally.disagreements.values()),
            "by_classes": _pairs(summary),
            "accuracy": tally.other_right / tally.labelled if tally.labelled else None,
        },
        "output": output,
    }


def _busy(summary: Summary) -> dict[str, float]:
    busy = summary.busy
    if busy is None:
        return {}
    return {name: getattr(busy, name) for name in ("reading", "decoding", "asking", "waiting", "writing")}


def _pairs(summary: Summary) -> dict[str, int]:
    """Disagreements as "3 → 5", the most frequent first."""
    labels = summary.labels
    pairs = {}
    for pair, count in summary.tally.disagreements.most_common():
        one, other = map(int, pair.split(">"))
        pairs[f"{labels[one]} → {labels[other]}"] = count
    return pairs


def _print(summary: Summary, output: str) -> None:
    tally = summary.tally
    if summary.rows_now or not summary.parts_before:
        rate = summary.rows_now / summary.seconds if summary.seconds else 0.0
        print(f"Scored {summary.rows_now:,} rows in {summary.seconds:.2f} s ({rate:,.0f} images/s) into {output}")
    if summary.parts_before:
        print(f"{summary.parts_before:,} of {summary.parts:,} parts were finished already; {tally.rows:,} rows in all")
    busy = _busy(summary)
    if summary.rows_now and summary.seconds and busy:
        shares = ", ".join(
            f"{name} {busy[stage] / summary.seconds:.0%}"
            for name, stage in (
                ("reading", "reading"),
                ("decoding", "decoding"),
                ("waiting for answers", "waiting"),
                ("writing", "writing"),
            )
        )
        print(f"Busy {shares} of the time; at most {summary.in_flight} requests in flight, {summary.refusals} refused")
    if summary.passed_over:
        print(f"Passed over {len(summary.passed_over):,}: {folders.sentence(summary.passed_over)}")
    if tally.first_pages:
        print(f"{tally.first_pages:,} pictures have several pages or frames; the answer is for the first one of each")
    print(f"Model {shown(summary.model.name)} version {summary.model.version}, {summary.model.digest[:12]}")
    if tally.labelled:
        print(
            f"Accuracy {tally.accuracy():.2%} of {tally.labelled:,}, calibration error {tally.calibration_error():.2%}"
        )
        if len(summary.labels) <= SHOWN_CLASSES:
            _print_confusion(summary)
    for value, (rows, right) in sorted(tally.slices.items(), key=lambda item: item[1][1] / item[1][0])[:SHOWN]:
        print(f"  {shown(value)}: {right / rows:.2%} of {rows:,}")
    if summary.compared is not None:
        count, other = sum(tally.disagreements.values()), summary.compared
        print(
            f"Version {other.version} answers {count:,} rows otherwise "
            f"({count / max(tally.rows - tally.bad_rows, 1):.2%})"
        )
        for pair, number in list(_pairs(summary).items())[:SHOWN]:
            print(f"  {shown(pair)}: {number:,}")
        if tally.labelled:
            print(f"  its accuracy is {tally.other_right / tally.labelled:.2%}")


def _print_confusion(summary: Summary) -> None:
    matrix = summary.tally.matrix(len(summary.labels)).tolist()
    labels = [shown(label) for label in summary.labels]
    width = max(5, *(len(f"{count}") for row in matrix for count in row), *map(len, labels)) + 1
    print("True class by row, answer by column:")
    print(" " * width + "".join(f"{label:>{width}}" for label in labels))
    for label, row in zip(labels, matrix, strict=True):
        print(f"{label:>{width}}" + "".join(f"{count or '·':>{width}}" for count in row))
