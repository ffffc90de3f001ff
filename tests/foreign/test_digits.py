"""scikit-learn's digits, not made as MNIST was: pictures of the model's size are not just taken as they are."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import ServerProcess

from mlpserve_client import Client
from mlpserve_client.prepare import from_image

pytestmark = [pytest.mark.slow]


def test_digits_of_others(store: Path, foreign_python: Path, tmp_path: Path) -> None:
    """1,797 digits of 8 × 8, as pictures of 28 × 28 that the digits fill."""
    dump = "import sys, numpy; from sklearn.datasets import load_digits; found = load_digits(); "
    dump += "numpy.savez(sys.argv[1], images=found.images, target=found.target)"
    subprocess.run([foreign_python, "-c", dump, tmp_path / "digits.npz"], check=True, timeout=240)
    with np.load(tmp_path / "digits.npz") as found:
        images, target = (found["images"] * (255 / 16)).astype(np.uint8), found["target"]
    assert len(images) == 1797
    pictures = [Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC) for image in images]
    forced = [Image.fromarray(np.pad(np.asarray(picture), 14)) for picture in pictures]  # never of the model's size
    with ServerProcess(tmp_path, store) as process, Client(process.address, timeout=60) as client:

        def right(prepared: list[np.ndarray]) -> float:  # type: ignore[type-arg]
            return float((client.predict(np.stack(prepared)).class_ids == target).mean())

        raw = right([np.asarray(picture) for picture in pictures])
        default = right([from_image(picture, 28, 28) for picture in pictures])
        centred = right([from_image(picture, 28, 28) for picture in forced])
    print(f"as they are {raw:.3f}, by default {default:.3f}, centred {centred:.3f}")
    assert default > raw + 0.2
    assert abs(default - centred) < 0.02
    assert default > 0.8
