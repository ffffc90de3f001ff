"""Train on a folder of pictures and publish a version, from Python.

    pip install '.[trainer,cpu]'
    python examples/train_pictures.py photos --store store

The folder has one subfolder per class, and the subfolders' names become the labels:

    photos/cat/001.png   photos/cat/002.jpg   photos/dog/001.png   …

A tenth of the pictures becomes the test set, which decides whether the version is good enough to publish. Serve it
with `mlpserve-server --store store --model photos`.
"""

import argparse
import sys
from pathlib import Path

from google.protobuf import json_format

from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import TrainerError
from mlpserve_trainer.job import train

SIZE = (28, 28)  # rows and columns that pictures are resized to: the input of the network


def main() -> None:
    """Train with settings for a few hundred to a few thousand pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--min-accuracy", type=float, default=0.8, help="publish nothing below this test accuracy")
    arguments = parser.parse_args()
    try:
        config = TrainConfig(
            data=str(arguments.pictures),
            store=arguments.store,
            image_size=SIZE,
            epochs=arguments.epochs,
            batch_size=16,  # small data sets need many steps more than large batches
            warp=0.5,  # data augmentation: every epoch sees the pictures a little rotated, scaled and bent
            validation=0.2,
            min_accuracy=arguments.min_accuracy,
        )
        folder = train(config)
    except TrainerError as error:
        sys.exit(f"train_pictures: {error}")
    assert folder is not None  # only the helpers of a torchrun job return None
    manifest = json_format.Parse((folder / "manifest.json").read_bytes(), Manifest())
    accuracy = manifest.evaluations[0].test_accuracy  # of the float32 file
    print(f"{folder}: classes {', '.join(manifest.labels)}; test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
