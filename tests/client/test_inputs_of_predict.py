"""What `predict` takes, and what its answer is: pictures in every form, class names, rows, a printed table."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, run
from tests.support.clients import Call
from tests.support.liar import REF, Liar
from tests.support.pictures import photograph

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import AsyncClient, Client, InvalidInputError, ModelChangedError, Prediction, Predictions

FORMS = ["path", "str", "png", "jpeg", "PIL"]


def _in_form(picture: Image.Image, form: str, folder: Path) -> Any:
    content = BytesIO()
    picture.convert("RGB").save(content, "jpeg" if form == "jpeg" else "png")
    path = folder / "picture.png"
    path.write_bytes(content.getvalue())
    return {"path": path, "str": str(path), "PIL": picture}.get(form, content.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_pictures_in_any_form(server: ServerProcess, call: Call, form: str, tmp_path: Path) -> None:
    """As the command line answers them, one and several."""
    photo = _in_form(photograph(4), form, tmp_path)
    answer = call(server.address, "predict", photo)
    assert answer.labels.tolist() == ["4"]
    (tmp_path / "shown.png").write_bytes(photo) if isinstance(photo, bytes) else photograph(4).save(
        tmp_path / "shown.png"
    )
    shown = run("mlpserve", "--server", server.address, "predict", tmp_path / "shown.png").stdout
    assert shown.split()[1:] == ["4", f"{answer.scores[0]:.1%}"]
    digits = [_in_form(Image.fromarray(image), form, tmp_path) for image in mnist_images()[:1]] * 3
    assert call(server.address, "predict", digits).labels.tolist() == [str(mnist_labels()[0])] * 3


def test_arrays_and_pictures_do_not_mix(server: ServerProcess, call: Call) -> None:
    with pytest.raises(InvalidInputError, match="a list of arrays and pictures; expected one of the two"):
        call(server.address, "predict", [mnist_images()[0], Image.fromarray(mnist_images()[0])])


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"no picture", "not a readable image"),
        ("none.png", "none.png: no such file"),
        (Path("none.png"), "none.png: no such file"),
        (["none.png"], "none.png: no such file"),
    ],
)
def test_what_is_no_picture(server: ServerProcess, call: Call, picture: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        call(server.address, "predict", picture)


def test_a_stream_of_pictures(server: ServerProcess) -> None:
    pictures = [Image.fromarray(image) for image in mnist_images()[:50]]
    with Client(server.address) as client:
        found = [answer.class_ids[0] for answer in client.map(pictures, batch=7)]
        assert found == client.predict(mnist_images()[:50]).class_ids.tolist()


def test_pictures_without_pillow(server: ServerProcess) -> None:
    """The light install takes arrays, and says what pictures need."""
    code = f"""
import sys
sys.modules["PIL"] = None
import numpy as np
from mlpserve_client import Client, InvalidInputError
with Client("{server.address}") as client:
    assert len(client.predict(np.zeros((2, 28, 28), np.uint8)).labels) == 2
    try:
        client.predict("photo.png")
    except InvalidInputError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pictures need Pillow, which is not installed: pip install pillow" in result.stdout, result.stderr


def test_names_rows_and_table(server: ServerProcess, call: Call) -> None:
    answer: Predictions = call(server.address, "predict", mnist_images()[:12], top_k=2)
    assert answer.labels.tolist() == [[str(number) for number in row] for row in answer.class_ids.tolist()]
    rows = list(answer)
    assert len(rows) == 12
    assert rows[3] == answer[3] == answer[-9]
    assert rows[0] == Prediction(
        answer.labels[0, 0],
        float(answer.scores[0, 0]),
        int(answer.class_ids[0, 0]),
        (Prediction(answer.labels[0, 1], float(answer.scores[0, 1]), int(answer.class_ids[0, 1])),),
    )
    with pytest.raises(IndexError, match="image 12 of 12"):
        answer[12]
    lines = str(answer).splitlines()
    assert lines[0] == "12 predictions of mnist version 1"
    assert lines[1] == f"7 {answer.scores[0, 0]:.1%}  {answer.labels[0, 1]} {answer.scores[0, 1]:.1%}"
    assert lines[-1] == "… and 2 more"
    assert len(lines) == 12


async def _of_async(address: str) -> tuple[Any, Any]:
    async with AsyncClient(address) as client:
        return await client.labels, await client.model


def test_the_model_and_its_labels(server: ServerProcess) -> None:
    import asyncio

    with Client(server.address) as client:
        assert client.labels == tuple("0123456789")
        assert (client.model.name, client.model.version) == ("mnist", 1)
        assert asyncio.run(_of_async(server.address)) == (client.labels, client.model)


IMAGES = np.zeros((3, 2, 2), np.uint8)


def _replace(server: Liar, *labels: str) -> None:
    """Another version takes over, whose classes have other names."""
    other = pb.ModelRef(name="m", version=4, digest="cd" * 32)
    server.lie(lambda response: response.model.CopyFrom(other))

    def change(info: pb.GetModelResponse) -> None:
        info.model.CopyFrom(other)
        info.manifest.labels[:] = labels

    server.misdescribe(change)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_names_are_of_the_version_that_answered(kind: str) -> None:
    import asyncio

    async def both() -> None:
        async with AsyncClient(server.address) as client:
            assert (await client.predict(IMAGES)).labels.tolist() == ["a"] * 3
            _replace(server, "x", "y", "z")
            assert (await client.predict(IMAGES)).labels.tolist() == ["x"] * 3
            assert (await client.predict(IMAGES)).labels.tolist() == ["x"] * 3
            assert await client.labels == ("x", "y", "z")

    with Liar() as server:
        if kind == "async":
            asyncio.run(both())
            return
        with Client(server.address) as client:
            assert client.predict(IMAGES).labels.tolist() == ["a"] * 3
            _replace(server, "x", "y", "z")
            assert client.predict(IMAGES).labels.tolist() == ["x"] * 3
            assert client.labels == ("x", "y", "z")


def test_names_that_nobody_knows_are_not_made_up(call: Call) -> None:
    """Another version answers than the one that the server goes on describing: classes have numbers, no names."""
    other = pb.ModelRef(name="m", version=4, digest="cd" * 32)
    with Liar() as server:
        server.lie(lambda response: response.model.CopyFrom(other))
        answer = call(server.address, "predict", IMAGES)
    assert answer.class_ids.tolist() == [0] * 3
    assert REF.version != answer.model.version
    with pytest.raises(ModelChangedError, match="version 4 answered, and the server no longer says"):
        answer.labels  # noqa: B018
    assert str(answer).splitlines()[1].startswith("0 ")
