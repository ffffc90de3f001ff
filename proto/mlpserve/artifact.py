"""The files of a published version that have fixed names; every other file is named by the manifest.

STORE/MODEL/promoted.json                  which version servers follow
STORE/MODEL/VERSION/manifest.json          mlpserve.v1.Manifest
STORE/MODEL/VERSION/manifest.sha256        its checksum, in sha256sum's form
STORE/MODEL/VERSION/model.sig              the signature of a signed version
"""

import re

FORMAT = 1  # Manifest.format
MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
SIGNATURE = "model.sig"
PROMOTED = "promoted.json"

LARGEST_MANIFEST = 1 << 20  # bytes; a larger one is not read
LARGEST_NUMBER = 2**32 - 1  # of a version: a uint32 in the contract

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


def version_number(name: str) -> int | None:
    """The number of the version in a folder of this name; None for any other folder."""
    number = int(name) if _NUMBER.fullmatch(name) else 0
    return number if 0 < number <= LARGEST_NUMBER else None
