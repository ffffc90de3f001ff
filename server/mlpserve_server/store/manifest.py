"""A version's manifest: read in full before the version is used, and summarised for listings."""

import hashlib
import json
import re
from typing import Any, NamedTuple

from google.protobuf import json_format

from mlpserve.artifact import CHECKSUM, FORMAT, MANIFEST
from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve_server.errors import ArtifactError
from mlpserve_server.names import check_files

LARGEST_CHECKSUM = 128  # bytes
LARGEST_SIGNATURE = 1 << 20  # bytes
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-9.:Z+-]{2,24}", re.ASCII)


class Document(NamedTuple):
    """A manifest as it was published.

    Attributes:
        where: the version, for messages.
        content: of manifest.json.
        checksum: content of manifest.sha256.
    """

    where: str
    content: bytes
    checksum: bytes


class Summary(NamedTuple):
    """What a listing says of a version.

    Attributes:
        digest: SHA-256 of manifest.json in lower-case hexadecimal.
        test_accuracy: of the float32 file, 0 to 1.
        created: as in the manifest, RFC 3339; empty if it is not there.
    """

    digest: str
    test_accuracy: float
    created: str


def parse(document: Document, model: str, number: int) -> tuple[Manifest, str]:
    """The manifest of a version, checked as far as it can be by itself, and its digest.

    Raises:
        ArtifactError: it is damaged, of another version, or lists what a version may not have.
    """
    where, digest = document.where, _digest(document)
    try:
        manifest = json_format.Parse(document.content, Manifest(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{where}/{MANIFEST} is not a manifest: {str(error)[:300]!r}") from error
    _check_identity(where, (manifest.format, manifest.model, manifest.version), model, number)
    _check_interface(where, len(manifest.labels), manifest.image.rows, manifest.image.cols)
    check_files(where, ((entry.path, entry.sha256, entry.size_bytes) for entry in manifest.files))
    return manifest, digest


def summarise(document: Document, model: str, number: int) -> Summary:
    """What a listing says of a version, many times as fast as `parse` for a manifest as we write them.

    What `parse` takes, this takes. A field of a wrong type that no listing shows is left for `parse` to find.

    Raises:
        ArtifactError: it is damaged, of another version, or lists what a version may not have.
    """
    where, digest = document.where, _digest(document)
    try:
        fields = json.loads(document.content)
        _check_identity(where, (fields["format"], fields["model"], fields["version"]), model, number)
        image = fields["image"]
        _check_interface(where, len(fields["labels"]), image["rows"], image["cols"])
        check_files(where, (_listed(entry) for entry in fields["files"]))
        return _summary(digest, float(fields["evaluations"][0]["testAccuracy"]), str(fields["created"]))
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        manifest, digest = parse(document, model, number)
        accuracy = manifest.evaluations[0].test_accuracy if manifest.evaluations else 0.0
        return _summary(digest, accuracy, manifest.created.ToJsonString())


def _summary(digest: str, accuracy: float, created: str) -> Summary:
    accuracy = accuracy if 0 <= accuracy <= 1 else 0.0  # which NaN is not
    return Summary(digest, accuracy, created if _TIME.fullmatch(created) else "")


def _listed(entry: dict[str, Any]) -> tuple[str, str, int]:
    return str(entry.get("path", "")), str(entry.get("sha256", "")), int(entry.get("sizeBytes", 0))


def _digest(document: Document) -> str:
    digest = hashlib.sha256(document.content).hexdigest()
    if document.checksum != f"{digest}  {MANIFEST}\n".encode():
        raise ArtifactError(
            f"{document.where}/{MANIFEST} does not match {CHECKSUM}: one of the two was changed after it was "
            "published. Publish the model again or serve another --version"
        )
    return digest


def _check_identity(where: str, found: tuple[int, str, int], model: str, number: int) -> None:
    form, named, version = found
    if form != FORMAT:
        raise ArtifactError(f"{where}/{MANIFEST}: artifact format {form!r}; this server reads format {FORMAT}")
    if (named, version) != (model, number):
        raise ArtifactError(
            f"{where}/{MANIFEST} is of {str(named)[:80]!r} version {version!r}; the folder was moved or copied"
        )


def _check_interface(where: str, labels: int, rows: int, cols: int) -> None:
    if labels < 2 or not rows or not cols:
        raise ArtifactError(f"{where}/{MANIFEST}: image size or labels are missing; publish the model again")
