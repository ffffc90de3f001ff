"""`mlpserve predict`: classify pictures, one after another."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse
from mlpserve_client.client import Client
from mlpserve_client.commands.flags import add_preparation
from mlpserve_client.errors import MlpserveError, ModelChangedError, printable
from mlpserve_client.messages.encoding import MODEL_CHANGES
from mlpserve_client.messages.predictions import ModelId


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    predict = commands.add_parser("predict", help="classify pictures")
    predict.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG … of any size")
    predict.add_argument(
        "--top-k", type=int, default=1, metavar="K", help="show the K most likely classes (default: 1)"
    )
    add_preparation(predict)
    predict.add_argument("--json", action="store_true", help="print one JSON object per picture")
    predict.set_defaults(run=run)


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Print each picture's best classes, and return the exit code: 2 when a picture was refused."""
    from mlpserve_client.prepare import read_image

    info = client.get_model()
    manifest = info.manifest
    raw = arguments.raw
    if raw is None:
        raw = manifest.image.preparation != Preparation.PREPARATION_CENTRED_INK
    failed = False
    for path in arguments.files:
        try:
            image = read_image(path, manifest.image.rows, manifest.image.cols, raw=raw, max_pixels=arguments.max_pixels)
        except MlpserveError as error:
            print(f"mlpserve: {error}", file=sys.stderr)
            failed = True
            continue
        answer = client.predict(image, top_k=arguments.top_k)
        info = _description(client, answer.model, info)
        manifest = info.manifest
        best = [
            {"label": manifest.labels[class_id], "score": score}
            for class_id, score in zip(answer.class_ids.ravel().tolist(), answer.scores.ravel().tolist(), strict=True)
        ]
        if arguments.json:
            print(json.dumps({"file": str(path), "best": best, "version": answer.model.version}))
        else:
            shown = (f"{printable(str(item['label']))} {item['score']:.1%}" for item in best)
            print(f"{path}  " + "  ".join(shown))
    return 2 if failed else 0


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
