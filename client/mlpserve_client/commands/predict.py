"""`mlpserve predict`: classify pictures, one after another."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mlpserve.files import folders
from mlpserve.files.kinds import Kind, head_of, kind_of
from mlpserve.files.names import text
from mlpserve.shown import shown
from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.client import Client
from mlpserve_client.commands.flags import WITH_BAD_ROWS, add_preparation, positive
from mlpserve_client.errors import InvalidInputError, MlpserveError, ModelChangedError
from mlpserve_client.messages.encoding import MODEL_CHANGES
from mlpserve_client.messages.predictions import ModelId


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    predict = commands.add_parser("predict", help="classify pictures")
    predict.add_argument("files", nargs="+", type=Path, metavar="FILE|DIR", help="PNG, JPEG … of any size, or folders")
    predict.add_argument(
        "--top-k", type=positive, default=1, metavar="K", help="show the K most likely classes (default: 1)"
    )
    add_preparation(predict)
    predict.add_argument("--json", action="store_true", help="print one JSON object per picture")
    predict.set_defaults(run=run)


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Print each picture's best classes, and return the exit code: WITH_BAD_ROWS when a picture was refused."""
    from mlpserve_client.prepare import read_picture

    info = client.get_model()
    manifest = info.manifest
    raw = arguments.raw
    if raw is None:
        raw = manifest.image.preparation != Preparation.PREPARATION_CENTRED_INK
    failed = False
    for path in pictures_of(arguments.files):
        name = text(str(path))
        try:
            found = read_picture(
                path, manifest.image.rows, manifest.image.cols, raw=raw, max_pixels=arguments.max_pixels
            )
        except MlpserveError as error:
            print(f"mlpserve: {error}", file=sys.stderr)
            failed = True
            continue
        if found.several:
            print(f"mlpserve: {name}: has several pages or frames; the answer is for the first", file=sys.stderr)
        answer = client.predict(found.pixels, top_k=arguments.top_k)
        info = _description(client, answer.model, info)
        manifest = info.manifest
        best = [
            {"label": manifest.labels[class_id], "score": score}
            for class_id, score in zip(answer.class_ids.ravel().tolist(), answer.scores.ravel().tolist(), strict=True)
        ]
        if arguments.json:
            print(json.dumps({"file": name, "best": best, "version": answer.model.version}))
        else:
            words = (f"{shown(item['label'])} {item['score']:.1%}" for item in best)
            print(f"{name}  " + "  ".join(words))
    return WITH_BAD_ROWS if failed else 0


def pictures_of(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as they are named, and the pictures in folders; what else lies there is counted on standard error.

    Raises:
        InvalidInputError: a folder cannot be read, or there are no pictures in it.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            found = folders.walk(str(path))
        except OSError as error:
            raise InvalidInputError(f"{path}: cannot be read ({error.strerror or error})") from error
        pictures = []
        for name in found.files:
            kind = kind_of(name, partial(head_of, str(path / name)))
            if kind is Kind.PICTURE:
                pictures.append(path / name)
            else:
                found.passed_over[name] = kind.value
        if found.passed_over:
            passed_over = f"passed over {len(found.passed_over):,}: {folders.sentence(found.passed_over)}"
            print(f"mlpserve: {text(str(path))}: {passed_over}", file=sys.stderr)
        if not pictures:
            raise InvalidInputError(f"{path}: no pictures in this folder")
        yield from pictures


def _description(client: Client, model: ModelId, info: GetModelResponse) -> GetModelResponse:
    """The description of the model that answered, whose labels are the answer's, where another one has taken over.

    Raises:
        ModelChangedError: the server describes yet another one.
    """
    for _ in range(MODEL_CHANGES):
        if info.model.digest == model.digest:
            return info
        info = client.get_model()
    raise ModelChangedError("versions take over from one another; call again, or give --version")
