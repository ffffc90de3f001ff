"""`mlpserve info`: what the server serves, and the versions in its store."""

from __future__ import annotations

import argparse

from mlpserve.shown import shown
from mlpserve.v1.artifact_pb2 import Precision
from mlpserve.v1.classifier_pb2 import ModelState
from mlpserve_client.client import Client
from mlpserve_client.commands.flags import seconds
from mlpserve_client.messages.responses import value_name

LISTED = 20  # versions that info names


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its flags."""
    info = commands.add_parser("info", help="show what the server serves")
    info.add_argument(
        "--wait", type=seconds, default=0.0, metavar="SECONDS", help="wait up to this long for the server to be ready"
    )
    info.add_argument("--json", action="store_true", help="print the whole answer as JSON, with the manifest")
    info.set_defaults(run=run)


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Print it, and return the exit code."""
    answer = client.wait_ready(arguments.wait) if arguments.wait else client.get_model()
    if arguments.json:
        from google.protobuf import json_format

        print(json_format.MessageToJson(answer))
        return 0
    manifest, serving = answer.manifest, answer.serving
    rows: list[tuple[str, str]] = [
        ("model", f"{answer.model.name} version {answer.model.version}"),
        ("digest", answer.model.digest),
        ("network", f"{'-'.join(map(str, manifest.network.layers))}, {manifest.network.parameters:,} parameters"),
        ("images", f"{manifest.image.rows}x{manifest.image.cols} uint8"),
        ("classes", f"{len(manifest.labels)}: {' '.join(manifest.labels)}"),
        ("trained on", f"{manifest.training.data}, {manifest.training.train_images:,} images"),
        *(
            (
                f"test {value_name(Precision, item.precision)}",
                f"{item.test_accuracy:.2%} of {item.test_images:,} images",
            )
            for item in manifest.evaluations
        ),
        ("served by", f"{serving.provider}, {value_name(Precision, serving.precision)}, {serving.transport} transport"),
        ("a request", f"at most {serving.max_request_images:,} images, {serving.max_message_bytes:,} bytes"),
    ]
    for name, value in rows:
        print(f"{name:<11} {shown(value)}")
    listed = client.list_models(LISTED)
    for summary in listed.models:
        state = value_name(ModelState, summary.state)
        mark = "promoted, " if summary.promoted else ""
        detail = shown(summary.detail)
        print(f"{'in store':<11} version {summary.model.version}, {mark}{state} {detail}".rstrip())
    if listed.total_size > len(listed.models):
        print(f"{'in store':<11} and {listed.total_size - len(listed.models):,} older versions: mlpserve-store list")
    return 0
