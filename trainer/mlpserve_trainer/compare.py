"""Compare two published versions on the same images: `mlpserve-train compare A B`."""

import base64
import hashlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from mlpserve.artifact import LARGEST_MANIFEST, MANIFEST
from mlpserve.v1.artifact_pb2 import FileRole, Manifest, Precision
from mlpserve_trainer import data
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import torchvision_sets
from mlpserve_trainer.errors import ConfigError, DataError
from mlpserve_trainer.evaluation.calibration import calibration_error
from mlpserve_trainer.report import figures, templates
from mlpserve_trainer.report.lettering import drawable

ROLES = {"fp32": FileRole.FILE_ROLE_MODEL_FP32, "int8": FileRole.FILE_ROLE_MODEL_INT8}
PRECISIONS = {"fp32": Precision.PRECISION_FP32, "int8": Precision.PRECISION_INT8}
SAME_ACCURACY = 0.001  # another machine may classify a few images differently
SHOWN = 40  # disagreements shown
BATCH = 4096  # images in one Run
LARGEST_FILE = 1 << 30  # bytes


@dataclass(frozen=True)
class Answers:
    """One version's answers: manifest, probabilities [N, C], class ids [N], and which are right [N]."""

    manifest: Manifest
    probabilities: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Model and version, for people: `mnist/3`."""
        return f"{self.manifest.model}/{self.manifest.version}"


def compare(
    a: Path, b: Path, data: str, image_size: tuple[int, int] | None, precision: str, output: Path | None
) -> Path | None:
    """Evaluate two versions on one test split, print the comparison, and write a report if `output` is given.

    Args:
        a: folder of a published version.
        b: folder of another.
        data: as `--data` in training; empty for the data that A was trained on.
        image_size: as `--image-size`.
        precision: "fp32" or "int8".
        output: HTML file; None for none.

    Returns:
        The report.

    Raises:
        ConfigError: a folder is not a published version, or the two have different labels or image sizes.
        DataError: the images cannot be read, or have another size than the versions take.
    """
    manifests = [_manifest(folder) for folder in (a, b)]
    first, second = manifests
    if (first.labels, first.image.rows, first.image.cols) != (second.labels, second.image.rows, second.image.cols):
        raise ConfigError(
            f"{a} and {b} have different labels or image sizes; only versions for the same images can be compared"
        )
    dataset = _dataset(first, data, image_size)
    images, targets = dataset.test.images.numpy(), dataset.test.targets.numpy()
    answers = [
        _answer(folder, manifest, precision, images, targets)
        for folder, manifest in zip((a, b), manifests, strict=True)
    ]
    one, other = answers
    if not data:
        _check_same_images(one, precision)
    only_one = int((one.right & ~other.right).sum())
    only_other = int((other.right & ~one.right).sum())
    chance = mcnemar(only_one, only_other)
    differing = np.flatnonzero(one.class_ids != other.class_ids)
    verdict = _verdict(one, other, only_one, only_other, chance)

    print(f"{len(targets):,} test images of {dataset.name}, {precision} files")
    if dataset.name not in torchvision_sets.SOURCES and first.training.seed != second.training.seed:
        print("Their seeds differ: where the data has no test set of its own, B may have learnt from these images")
    for item in answers:
        error = calibration_error(item.probabilities, targets)
        print(f"  {item.name:<24} accuracy {item.right.mean():.2%}, calibration error {error:.2%}")
    print(f"  right in both {int((one.right & other.right).sum()):,}, only in {one.name} {only_one:,}, ", end="")
    print(f"only in {other.name} {only_other:,}, in neither {int((~one.right & ~other.right).sum()):,}")
    print(f"  they name another class for {len(differing):,} images")
    print(f"McNemar's test (exact): p = {chance:.3g}. {verdict}")
    if output is None:
        return None
    # Those where one version is right come first, ordered by confidence.
    sureness = np.maximum(one.probabilities.max(axis=1), other.probabilities.max(axis=1))
    order = differing[np.lexsort((-sureness[differing], ~(one.right ^ other.right)[differing]))][:SHOWN]
    labels = drawable(first.labels)
    titles = [f"{labels[targets[i]]}: {labels[one.class_ids[i]]} | {labels[other.class_ids[i]]}" for i in order]
    pictures = images[order].reshape(-1, dataset.rows, dataset.cols)
    heading = f"True class: {one.name} | {other.name}"
    html = templates.get_template("compare.html").render(
        answers=answers,
        errors=[calibration_error(item.probabilities, targets) for item in answers],
        count=len(targets),
        data=dataset.name,
        precision=precision,
        only=(only_one, only_other),
        differing=len(differing),
        shown=len(order),
        chance=chance,
        verdict=verdict,
        picture=base64.b64encode(figures.grid(pictures, titles, heading)).decode(),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(html)
    return output


def _check_same_images(answers: Answers, precision: str) -> None:
    """Check that these are the images of A's evaluation: your own folder may have the name of a known data set.

    Raises:
        ConfigError: the number of correct answers differs from the manifest's.
    """
    training = answers.manifest.training
    right, count = int(answers.right.sum()), len(answers.right)
    for recorded in answers.manifest.evaluations:
        if recorded.precision != PRECISIONS[precision]:
            continue
        were = round(recorded.test_images * recorded.test_accuracy)
        if recorded.test_images != count or abs(right - were) > max(1, count * SAME_ACCURACY):
            raise ConfigError(
                f"{answers.name} was not evaluated on these images of {training.data}: it classified {were:,} of "
                f"{recorded.test_images:,} correctly, and {right:,} of {count:,} here; give the original images with "
                "--data PATH"
            )


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test (1947): the null hypothesis is that both are right equally often.

    Args:
        only_first: images that only the first version classifies correctly.
        only_second: images that only the second one does.
    """
    total = only_first + only_second
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**total)))


def _verdict(one: Answers, other: Answers, only_one: int, only_other: int, chance: float) -> str:
    if chance >= 0.05:
        return "The difference is not statistically significant."
    better, worse = (one, other) if only_one > only_other else (other, one)
    return f"{better.name} is better than {worse.name}; the difference is statistically significant."


def _manifest(folder: Path) -> Manifest:
    try:
        content = read_inside(folder, MANIFEST, LARGEST_MANIFEST)
        return json_format.Parse(content, Manifest(), ignore_unknown_fields=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: not a published version ({error.strerror}: {MANIFEST}); give its folder, for example "
            "store/mnist/1"
        ) from error
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{folder}/{MANIFEST} cannot be read: {str(error)[:300]!r}") from error


def read_inside(folder: Path, name: str, most: int) -> bytes:
    """Open a regular file inside a version's folder, which is not trusted.

    Raises:
        ConfigError: it is outside the folder, not a regular file, or larger than `most` bytes.
        OSError: it is missing or cannot be read.
    """
    if "\0" in name:
        raise ConfigError(f"{folder}: the manifest lists {name[:200]!r}, which cannot be a file")
    path = (folder / name).resolve(strict=True)
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"{folder}: {name[:200]!r} is outside the version's folder; publish the version again")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb", closefd=True) as file:  # noqa: PTH123
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise ConfigError(f"{path} does not match its manifest; publish the version again")
        return file.read(most)


def _dataset(manifest: Manifest, source: str, image_size: tuple[int, int] | None) -> data.Dataset:
    name = source or manifest.training.data
    if not source and name not in torchvision_sets.SOURCES:
        raise ConfigError(f"the versions were trained on your own data, {name!r}; give its location with --data PATH")
    dataset = data.load(
        name,
        cache=TrainConfig.data_cache,
        validation=TrainConfig.validation,
        seed=manifest.training.seed,
        image_size=image_size,
    )
    size, wanted = (dataset.rows, dataset.cols), (manifest.image.rows, manifest.image.cols)
    if size != wanted:
        raise DataError(
            f"{name}: images of {size[0]}x{size[1]}, the versions take {wanted[0]}x{wanted[1]}: --image-size"
        )
    if list(dataset.labels) != list(manifest.labels):
        raise DataError(f"{name}: labels {', '.join(dataset.labels)}; the versions know {', '.join(manifest.labels)}")
    return dataset


def _answer(
    folder: Path, manifest: Manifest, precision: str, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64]
) -> Answers:
    entry = next((file for file in manifest.files if file.role == ROLES[precision]), None)
    if entry is None:
        raise ConfigError(f"{folder} has no {precision} file")
    try:
        content = read_inside(folder, entry.path, min(entry.size_bytes, LARGEST_FILE))
    except OSError as error:
        raise ConfigError(f"{folder}: {entry.path[:200]!r}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ConfigError(f"{folder / entry.path} does not match its manifest; publish the version again")
    _check_tensors(content, folder / entry.path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not by the file's first bytes
    parts = np.split(images, range(BATCH, len(images), BATCH))
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        probabilities = np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in parts])
    except Exception as error:  # ONNX Runtime's exceptions share no base below it
        what = str(error).strip().partition("\n")[0][:300]
        raise ConfigError(f"{folder / entry.path}: ONNX Runtime cannot run it ({what}); publish it again") from error
    class_ids = probabilities.argmax(axis=1)
    return Answers(manifest, probabilities, class_ids, class_ids == targets)


def _check_tensors(content: bytes, path: Path) -> None:
    """Refuse an ONNX file that makes ONNX Runtime read another file; the file is not trusted."""
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ConfigError(f"{path} is not an ONNX model; publish the version again") from error
    if any(tensor.external_data or tensor.data_location for tensor in _tensors(model)):
        raise ConfigError(f"{path}: a tensor is stored in another file; the ONNX file itself must hold all weights")


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """All tensors in an ONNX message, at any depth."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)
