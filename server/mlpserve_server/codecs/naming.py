"""Which model and version a request names."""

from mlpserve_server.errors import UnknownModel
from mlpserve_server.models.model import LoadedModel

NAMES_LENGTH = 160  # bytes that hold a model's name and a version


def check_model(name: str, version: int, model: LoadedModel) -> None:
    """Check the model and version that a request names.

    Raises:
        UnknownModel: they are not the ones that `model` is.
    """
    ref = model.ref
    if name and name != ref.name:
        raise unknown_model(name, ref.name)
    if version and version != ref.version:
        raise UnknownModel(f"version {version} of {ref.name!r} is not served here; version {ref.version} is")


def unknown_model(name: str, served: str) -> UnknownModel:
    """The error for the name of a model that is not served."""
    # A status travels in a header, whose size is limited.
    return UnknownModel(f"model {name[:64]!r} is not served here; this server serves {served!r}")


def version_number(version: str) -> int:
    """The number of a version as the Open Inference Protocol writes it; 0 for none.

    Raises:
        UnknownModel: it is not a number.
    """
    if not version:
        return 0
    if not version.isascii() or not version.isdecimal() or len(version) > 18 or not int(version):
        raise UnknownModel(f"version {version[:64]!r} is not served here; versions are numbers from 1")
    return int(version)


def named_model(payload: bytes) -> tuple[str, int]:
    """The model and version that an unparsed request of either protocol names.

    Empty and 0 if it names none, or not where serializers put them. In both protocols field 1 is the model's name and
    field 2 its version: a number in Predict, text in ModelInfer.
    """
    head = payload[:NAMES_LENGTH]
    name, position = "", 0
    if head[:1] == b"\n" and len(head) > 1 and head[1] < 0x80:
        position = 2 + head[1]
        name = head[2:position].decode("utf-8", "replace")
    tag, rest = head[position : position + 1], head[position + 1 :]
    if tag == b"\x10":
        return name, _number(rest)
    if tag == b"\x12" and rest[:1]:
        text = rest[1 : 1 + rest[0]]
        return name, int(text) if text.isdigit() and len(text) < 10 else 0
    return name, 0


def _number(varint: bytes) -> int:
    """The number at the beginning of some bytes; 0 if it does not end within five."""
    value = 0
    for place, byte in enumerate(varint[:5]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value
    return 0
