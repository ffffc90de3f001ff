"""A server that lies to `mlpserve`'s commands and to calls that share a request: a sentence, no traceback."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import run
from tests.support.liar import Liar
from tests.support.lies import IMAGES, cut, number, put
from tests.support.pictures import png

from mlpserve_client import AsyncClient, InvalidResponseError
from mlpserve_client.scoring import Endpoint, score


@pytest.mark.parametrize(
    ("words", "lie"),
    [
        ("class 99", number("class_ids", 99, "<u4")),
        ("the score nan", number("scores", math.nan)),
        ("scores of", cut("scores", -1)),
        ("it is of 'm' version 4; expected 'm' version 3", lambda r: setattr(r.model, "version", 4)),
    ],
)
def test_score_ends_with_a_sentence(words: str, lie: Callable[[Any], Any], tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    with Liar() as server:
        server.lie(lie)
        result = run("mlpserve", "--server", server.address, "score", tmp_path / "images.npy", tmp_path / "out")
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out/_SUCCESS").exists()
        server.lie(lambda _: None)
        assert score(Endpoint(server.address), [str(tmp_path / "images.npy")], str(tmp_path / "out")).tally.rows == 120


def test_predict_info_and_doctor_end_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(png(np.full((2, 2), 90, np.uint8)))
    with Liar() as server:
        command = ("mlpserve", "--server", server.address)
        assert run(*command, "predict", tmp_path / "picture.png").returncode == 0
        server.lie(lambda response: put(response, "class_ids", 99, "<u4", at=0))
        for arguments in (("predict", tmp_path / "picture.png"), ("doctor",)):
            result = run(*command, *arguments)
            assert result.returncode == 1
            assert "class 99 for image 0; expected 0 to 2, the model's classes" in result.stderr + result.stdout
            assert "Traceback" not in result.stderr
        server.misdescribe(lambda info: info.manifest.ClearField("labels"))
        for arguments in (("predict", tmp_path / "picture.png"), ("info",), ("doctor",)):
            result = run(*command, *arguments)
            assert result.returncode == 1
            assert "a model without labels" in result.stderr + result.stdout
            assert "Traceback" not in result.stderr


def test_shared_requests_share_the_error() -> None:
    async def calls(target: str) -> list[Any]:
        async with AsyncClient(target) as client:
            return await asyncio.gather(*(client.predict(image) for image in IMAGES), return_exceptions=True)

    with Liar() as server:
        server.lie(number("scores", math.nan, "<f4"))
        outcomes = asyncio.run(calls(server.address))
    assert {type(outcome) for outcome in outcomes} == {InvalidResponseError}
