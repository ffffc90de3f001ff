"""Inputs of a scoring job: files, folders and globs, each opened by what it is.

listing.py     what lies below a folder
arrays.py      IDX, .npy, .npz
tables.py      Parquet
values.py      one value of a table: raw pixels, numbers or an encoded picture
pictures.py    folders of pictures, tar archives of them
footprint.py   how much memory a Parquet file's rows take
unpacking.py   compressed inputs within bounds
labels.py      true labels from a file beside the input
meaning.py     true labels as class ids
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlpserve.files import folders
from mlpserve.files.kinds import Kind, kind_of
from mlpserve_client.scoring import files
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import ArrayInput
from mlpserve_client.scoring.inputs.listing import Listing, listed
from mlpserve_client.scoring.inputs.pictures import FolderInput, TarInput
from mlpserve_client.scoring.inputs.rows import Chunk, Decoded, Form, Input
from mlpserve_client.scoring.inputs.tables import TableInput

__all__ = ["Chunk", "Decoded", "Form", "Input", "Named", "find", "open_input", "open_inputs"]


@dataclass
class Named:
    """What paths, globs and folders name.

    Attributes:
        paths: files, and folders of pictures, in order.
        listings: of those folders.
        passed_over: what lies in the folders and is no input, and why.
    """

    paths: list[str] = field(default_factory=list)
    listings: dict[str, Listing] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)


def find(patterns: Sequence[str]) -> Named:
    """What paths, globs and folders name.

    Raises:
        ScoringError: one names nothing that can be read.
    """
    named = Named()
    for pattern in patterns:
        for path in files.expand(pattern):
            if not files.is_folder(path):
                named.paths.append(path)
                continue
            found = listed(path)
            inside = path.rstrip("/") + "/"
            named.passed_over |= {inside + name: why for name, why in found.passed_over.items()}
            if found.pictures:
                named.paths.append(path)
                named.listings[path] = found
            named.paths += [inside + name for name in found.others]
            if not found.pictures and not found.others:
                passed_over = folders.sentence(found.passed_over) or "it is empty"
                raise ScoringError(f"{path}: no pictures and no files of images in this folder: {passed_over}")
    return named


def open_inputs(named: Named | Sequence[str], form: Form) -> list[Input]:
    """Open everything that is named, in order.

    Raises:
        ScoringError: one cannot be read, or has images of another size.
    """
    if not isinstance(named, Named):
        named = find(named)
    opened: list[Input] = []
    try:
        opened.extend(open_input(path, form, named.listings.get(path)) for path in named.paths)
    except BaseException:
        for item in opened:
            item.close()
        raise
    return opened


def open_input(path: str, form: Form, listing: Listing | None = None) -> Input:
    """Open one file, or the pictures of one folder.

    Args:
        path: of it.
        form: what images must be.
        listing: of the folder, where it is known already.

    Raises:
        ScoringError: it cannot be read, or has images of another size.
    """
    if files.is_folder(path):
        return FolderInput(path, form, listing)
    file = files.File(path)
    kind = kind_of(file.name, lambda: b"")
    if kind is Kind.TABLE:
        return TableInput(file, form)
    if kind is Kind.ARCHIVE:
        return TarInput(file, form)
    if form.column:
        raise ScoringError(f"{path}: --column is for Parquet files")
    if kind is Kind.PICTURE:
        raise ScoringError(f"{path}: a picture; score takes folders and archives of them, `mlpserve predict` a file")
    return ArrayInput(file, form)
