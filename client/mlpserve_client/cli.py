"""`mlpserve`: the command line of the client.

    mlpserve info                                  what the server serves
    mlpserve predict digit.png photo.jpg           classify pictures
    mlpserve score images.npy answers              classify files and folders, millions of rows
    mlpserve playground                            a web page to draw on and watch the model answer
    mlpserve doctor                                check this machine and the way to the server

Exit codes: 0 done, 1 failed (standard error says why), 2 wrong usage, or finished with bad rows or unreadable files,
3 an input of `score` changed while it ran, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mlpserve.v1.artifact_pb2 import Precision, Preparation
from mlpserve.v1.classifier_pb2 import GetModelResponse, ModelState
from mlpserve_client import score_command
from mlpserve_client.channel import Tls
from mlpserve_client.client import Client
from mlpserve_client.errors import InvalidInputError, MlpserveError, ModelChangedError, printable
from mlpserve_client.flags import add_connection, add_preparation
from mlpserve_client.playground import command as playground_command
from mlpserve_client.requests import DEFAULT_TIMEOUT, MODEL_CHANGES, ModelId
from mlpserve_client.responses import value_name
from mlpserve_client.score_command import SCORE_TIMEOUT

if TYPE_CHECKING:
    from mlpserve_client.scoring import Endpoint

LISTED = 20  # versions that info names
# By the package that is missing; others: score.
EXTRAS = {"PIL": "images", "starlette": "web", "uvicorn": "web", "shtab": "completion"}
EXECUTABLES = {
    "mlpserve": "mlpserve_client.cli",
    "mlpserve-server": "mlpserve_server.cli",
    "mlpserve-store": "mlpserve_server.store_cli",
    "mlpserve-train": "mlpserve_trainer.cli",
}


def main() -> None:
    """Entry point of `mlpserve`."""
    arguments = parser().parse_args()
    # Pillow warns of pictures that we refuse in words.
    warnings.filterwarnings("ignore", "Image size .* could be decompression bomb", RuntimeWarning)
    try:
        if "local" in arguments:
            sys.exit(arguments.local(arguments))
        if "job" in arguments:
            sys.exit(arguments.job(_endpoint(arguments), arguments))
        with Client(
            arguments.server,
            model=arguments.model,
            version=arguments.version,
            timeout=arguments.timeout or DEFAULT_TIMEOUT,
            tls=_tls(arguments),
            token=_token(arguments.token_file),
            token_over_plaintext=arguments.token_over_plaintext,
        ) as client:
            code = arguments.run(client, arguments)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(error.name or "", "score")
        _exit(2, f"{error.name} is not installed; this command needs: pip install 'mlpserve[{extra}]'")
    except MlpserveError as error:
        _exit(getattr(error, "exit_code", 1), f"{error} (see {error.page})")
    except BrokenPipeError:  # of `mlpserve … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _exit(130, "interrupted" + ("; run the same command again to resume" if "job" in arguments else ""))
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    parser = argparse.ArgumentParser(
        prog="mlpserve",
        description="Call an mlpserve server: classify pictures, score data sets, inspect models.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or finished with bad rows, 3 an input of score changed "
        "while it was read, 130 interrupted.",
    )
    add_connection(parser)
    commands = parser.add_subparsers(required=True, title="Commands", metavar="COMMAND")

    info = commands.add_parser("info", help="show what the server serves")
    info.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="wait up to this long for the server to be ready"
    )
    info.add_argument("--json", action="store_true", help="print the whole answer as JSON, with the manifest")
    info.set_defaults(run=_info)

    predict = commands.add_parser("predict", help="classify pictures")
    predict.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG … of any size")
    predict.add_argument(
        "--top-k", type=int, default=1, metavar="K", help="show the K most likely classes (default: 1)"
    )
    add_preparation(predict)
    predict.add_argument("--json", action="store_true", help="print one JSON object per picture")
    predict.set_defaults(run=_predict)

    score = score_command.add(commands)
    add_preparation(score)
    score.set_defaults(job=score_command.run)

    playground = playground_command.add(commands)
    add_preparation(playground)
    playground.set_defaults(job=playground_command.run)

    doctor = commands.add_parser("doctor", help="diagnose this machine and the connection to the server")
    doctor.add_argument(
        "--target", dest="server", default=argparse.SUPPRESS, metavar="HOST:PORT", help="address of the server"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(run=_doctor)

    completion = commands.add_parser("completion", help="print shell completion for every installed executable")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(local=_completion)
    return parser


def _endpoint(arguments: argparse.Namespace) -> Endpoint:
    from mlpserve_client.scoring import Endpoint

    return Endpoint(
        arguments.server,
        model=arguments.model,
        version=arguments.version,
        timeout=arguments.timeout or SCORE_TIMEOUT,
        tls=_tls(arguments),
        token=_token(arguments.token_file),
        token_over_plaintext=arguments.token_over_plaintext,
    )


def _tls(arguments: argparse.Namespace) -> Tls | None:
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    if not arguments.tls and not any(files) and not arguments.tls_server_name:
        return None
    return Tls(*files, server_name=arguments.tls_server_name)


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--token-file {path} cannot be read: {error}") from error


def _info(client: Client, arguments: argparse.Namespace) -> int:
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
        print(f"{name:<11} {printable(str(value))}")
    listed = client.list_models(LISTED)
    for summary in listed.models:
        state = value_name(ModelState, summary.state)
        mark = "promoted, " if summary.promoted else ""
        detail = printable(summary.detail)
        print(f"{'in store':<11} version {summary.model.version}, {mark}{state} {detail}".rstrip())
    if listed.total_size > len(listed.models):
        print(f"{'in store':<11} and {listed.total_size - len(listed.models):,} older versions: mlpserve-store list")
    return 0


def _predict(client: Client, arguments: argparse.Namespace) -> int:
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


def _doctor(client: Client, arguments: argparse.Namespace) -> int:
    from mlpserve_client import doctor

    findings = []
    for finding in doctor.examine(client):
        findings.append(finding)
        if not arguments.json:
            print(f"{finding.state:<8} {finding.check:<13} {finding.found}", flush=True)
            if finding.advice:
                print(f"{'':<8} {'':<13} → {finding.advice}", flush=True)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings]))
    return int(any(finding.state == doctor.PROBLEM for finding in findings))


def _completion(arguments: argparse.Namespace) -> int:
    """Completion is made by shtab from each executable's own parser."""
    from importlib.util import find_spec

    if find_spec("shtab") is None:
        raise ModuleNotFoundError(name="shtab")
    for program, module in EXECUTABLES.items():
        if find_spec(module.partition(".")[0]) is None:
            continue
        command = [sys.executable, "-m", "shtab", "--shell", arguments.shell, "--prog", program]
        command += ["--prefix", program.replace("-", "_"), f"{module}.parser"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode == 0:  # otherwise its packages are not installed
            print(made.stdout)
    return 0


def _exit(code: int, message: str) -> None:
    print(f"mlpserve: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
