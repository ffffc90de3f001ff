"""`mlpserve info` and `mlpserve predict` as a person runs them."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support.mnist import mnist_images
from support.processes import PROVIDER, ServerProcess, run
from tests.support.pictures import photograph


def test_info(server: ServerProcess) -> None:
    result = run("mlpserve", "--server", server.address, "info", "--wait", 5)
    assert result.returncode == 0, result.stderr
    for words in ("mnist version 1", "784-256-10, 203,530 parameters", PROVIDER, "version 1, serving"):
        assert words in result.stdout
    full = json.loads(run("mlpserve", "info", "--json", env={"MLPSERVE_SERVER": server.address}).stdout)
    assert full["manifest"]["labels"] == list("0123456789")


def test_predict_pictures_of_any_size(server: ServerProcess, tmp_path: Path) -> None:
    Image.fromarray(mnist_images()[0]).save(tmp_path / "seven.png")
    photograph(4).save(tmp_path / "photo.jpg")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    files = [tmp_path / name for name in ("seven.png", "broken.png", "photo.jpg")]
    result = run("mlpserve", "--server", server.address, "predict", *files, "--json", "--top-k", 3)
    assert result.returncode == 4, "one file could not be read"
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["best"][0]["label"] for answer in answers] == ["7", "4"]
    assert [len(answer["best"]) for answer in answers] == [3, 3]
    assert "broken.png: not a readable image" in result.stderr
    assert "Traceback" not in result.stderr


def test_pictures_are_prepared_as_the_training_images_were(slow_store: Path, tmp_path: Path) -> None:
    """The "slow" model was trained on a folder, whose pictures are only scaled: the client does the same unasked."""
    picture = Image.fromarray(mnist_images()[0]).resize((56, 56))
    picture.save(tmp_path / "picture.png")
    with ServerProcess(tmp_path, slow_store, "--model", "slow") as process:
        answers = [
            run(
                "mlpserve", "--server", process.address, "predict", tmp_path / "picture.png", "--top-k", 3, *flag
            ).stdout
            for flag in ([], ["--raw"], ["--centre"])
        ]
    assert answers[0] == answers[1] != answers[2]


def test_no_server_ends_in_a_sentence() -> None:
    result = run("mlpserve", "--server", "127.0.0.1:1", "--timeout", 0.5, "info")
    assert result.returncode == 1
    assert "mlpserve: 127.0.0.1:1:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["infos"], "invalid choice: 'infos'"),
        (["predict"], "the following arguments are required: FILE"),
        (["info", "--wat"], "unrecognized arguments: --wat"),
        (["--version", "x", "info"], "argument --version: invalid int value: 'x'"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: list[str], sentence: str) -> None:
    result = run("mlpserve", *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert sentence in line
    assert line.endswith("--help lists what there is")


def test_flags_of_the_connection_on_either_side_of_the_command(server: ServerProcess) -> None:
    before = run("mlpserve", "--server", server.address, "--model", "mnist", "info")
    after = run("mlpserve", "info", "--server", server.address, "--model", "mnist")
    assert before.returncode == after.returncode == 0, after.stderr
    assert before.stdout == after.stdout
    both = run("mlpserve", "--server", "127.0.0.1:1", "--version", 1, "info", "--server", server.address)
    assert both.returncode == 0, both.stderr
    wrong = run("mlpserve", "info", "--server", server.address, "--version", 7)
    assert wrong.returncode == 1


def test_version_alone_is_the_programs() -> None:
    for arguments in (["--version"], ["info", "--version"]):
        result = run("mlpserve", *arguments)
        assert result.returncode == 0
        assert result.stdout.split()[0] == "mlpserve"
        assert result.stdout.split()[1][0].isdigit()
