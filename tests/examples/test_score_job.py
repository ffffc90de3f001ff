"""The scoring job: what pandas and DuckDB read is what the server answered."""

from pathlib import Path

import numpy as np
from support.mnist import IMAGES, LABELS, mnist_images, mnist_labels
from support.processes import free_port
from tests.support.examples import run_example

from mlpserve_client import Client


def test_the_answers_are_summarised(address: str, tmp_path: Path) -> None:
    done = run_example("score_job.py", IMAGES, "answers", "--labels", LABELS, "--server", address, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Client(address) as client:
        class_ids = client.predict(mnist_images()).class_ids
    labels = mnist_labels()
    assert f"10,000 rows, 0 bad, accuracy {(class_ids == labels).mean():.2%}" in done.stdout

    _, by_class, by_pair = done.stdout.split("\n\n")
    rows = [line.split() for line in by_class.splitlines()[3:]]
    assert [int(row[0]) for row in rows] == list(range(10))
    for target, count, accuracy, _ in rows:
        of_class = labels == int(target)
        assert int(count) == of_class.sum()
        assert abs(float(accuracy) - (class_ids[of_class] == int(target)).mean()) < 1e-6

    pairs = [[int(cell) for cell in line.split()] for line in by_pair.splitlines()[2:]]
    assert len(pairs) == 10
    counts = np.zeros((10, 10), int)
    wrong = class_ids != labels
    np.add.at(counts, (labels[wrong], class_ids[wrong]), 1)
    assert [pair[2] for pair in pairs] == sorted(counts.ravel().tolist(), reverse=True)[:10]
    for target, predicted, count, row in pairs:
        assert counts[target, predicted] == count
        assert (labels[row], class_ids[row]) == (target, predicted)


def test_a_failed_job_says_why(tmp_path: Path) -> None:
    server = f"127.0.0.1:{free_port()}"
    done = run_example("score_job.py", "gone.npy", "answers", "--labels", LABELS, "--server", server, cwd=tmp_path)
    assert done.returncode == 1
    assert "gone.npy" in done.stderr
    assert "Traceback" not in done.stderr
