"""A scoring job with labels, and what its answers say: in pandas, and in SQL with DuckDB.

    pip install '.[score]' duckdb pandas
    cd trainer/mlpserve_trainer/mnist
    python ../../../examples/score_job.py t10k-images-idx3-ubyte.gz answers --labels t10k-labels-idx1-ubyte.gz

`mlpserve score` is resumable: if this program is killed, run it again, and only the missing parts are computed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd

BAD_ROWS = 4  # exit code of `mlpserve score`: finished, but some rows could not be scored


def main() -> None:
    """Score, then summarise the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="anything that mlpserve score reads")
    parser.add_argument("answers", type=Path, help="folder to write the answers to")
    parser.add_argument("--labels", required=True, help="IDX or .npy file with the true classes")
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT")
    arguments = parser.parse_args()

    summary = score(arguments.images, arguments.answers, arguments.labels, arguments.server)
    print(f"{summary['rows']:,} rows, {summary['bad_rows']} bad, accuracy {summary['accuracy']:.2%}")

    print("\nAccuracy by class (pandas)")
    print(accuracy_by_class(arguments.answers).to_string())

    print("\nMost frequent confusions (DuckDB)")
    print(confusions(arguments.answers).to_string(index=False))


def score(images: str, answers: Path, labels: str, server: str) -> dict[str, float]:
    """Run the job and return its summary; exits with the job's own message if it fails."""
    command = [sys.executable, "-m", "mlpserve_client.cli", "--server", server]
    command += ["score", "--json", "--labels", labels, images, str(answers)]
    job = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if job.returncode not in (0, BAD_ROWS) or not job.stdout:
        sys.exit(job.returncode)
    summary: dict[str, float] = json.loads(job.stdout)
    return summary


def accuracy_by_class(answers: Path) -> pd.DataFrame:
    """Rows, share of right answers and mean score of each true class."""
    rows = pd.read_parquet(answers)  # the whole folder: names that begin with _ are passed over
    rows = rows[rows["error"].isna()]
    rows["right"] = rows["predicted"] == rows["true"]
    of_class = rows.groupby("true")
    return pd.DataFrame(
        {"rows": of_class.size(), "accuracy": of_class["right"].mean(), "score": of_class["score"].mean()}
    )


def confusions(answers: Path, most: int = 10) -> pd.DataFrame:
    """Pairs of true and predicted class, most frequent first, with one row of each to look at."""
    query = """
        SELECT "true", predicted, count(*) AS rows, arg_max("row", score) AS most_confident_row
        FROM read_parquet(?)
        WHERE predicted <> "true"  -- with its quotes the column, without them the constant
        GROUP BY ALL
        ORDER BY rows DESC, "true", predicted
        LIMIT ?
    """
    return duckdb.execute(query, [str(answers / "part-*.parquet"), most]).df()


if __name__ == "__main__":
    main()
