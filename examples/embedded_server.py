"""Run the server inside a Python program: for tests of your own service, notebooks, and tools without a deployment.

    pip install '.[server,cpu,images]'
    python examples/embedded_server.py store photo.png

Loads the newest version of the model, verifies it, serves it on a free port of this machine, and classifies pictures
through it. Other processes can call the same address while the `with` block runs; leaving it drains and stops the
server.
"""

import argparse
import sys
from pathlib import Path

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve_client import Client, MlpserveError
from mlpserve_client.prepare import read_image
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import StartupError
from mlpserve_server.server import Server


def main() -> None:
    """Serve, classify, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default="mnist")
    arguments = parser.parse_args()
    try:
        config = ServerConfig(store=arguments.store, model=arguments.model, listen="127.0.0.1:0")
        with Server(config) as server, Client(server.address) as client:
            print(f"serving on {server.address}", flush=True)
            classify(client, arguments.pictures)
    except (StartupError, MlpserveError) as error:
        sys.exit(f"embedded_server: {error}")


def classify(client: Client, pictures: list[Path]) -> None:
    """Print the label and score of each picture.

    Raises:
        MlpserveError: a file is not a picture, or the server cannot answer.
    """
    manifest = client.get_model().manifest
    raw = manifest.image.preparation != Preparation.PREPARATION_CENTRED_INK
    for path in pictures:
        answer = client.predict(read_image(path, manifest.image.rows, manifest.image.cols, raw=raw))
        print(f"{path}: {manifest.labels[int(answer.class_ids[0])]} ({answer.scores[0]:.1%})")


if __name__ == "__main__":
    main()
