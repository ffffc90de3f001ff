"""Our rules of what breaks a contract against those of buf, which npm has: the same verdict on the same change."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
from compatibility import descriptors
from google.protobuf import json_format, text_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions

ROOT = Path(__file__).resolve().parents[2]
BUF = "1.75.0"
CONFIG = '{"version": "v2", "breaking": {"use": ["FILE", "WIRE_JSON"]}}'

FILE = """
name: "spare.proto" package: "spare" syntax: "proto3"
message_type {
  name: "Part"
  field { name: "size" number: 1 label: LABEL_OPTIONAL type: TYPE_UINT32 json_name: "size" }
  field { name: "red" number: 3 label: LABEL_OPTIONAL type: TYPE_BOOL json_name: "red" oneof_index: 0 }
  field { name: "blue" number: 4 label: LABEL_OPTIONAL type: TYPE_BOOL json_name: "blue" oneof_index: 0 }
  field { name: "kind" number: 2 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".spare.Kind" json_name: "kind" }
  field { name: "names" number: 5 label: LABEL_REPEATED type: TYPE_STRING json_name: "names" }
  oneof_decl { name: "colour" }
  reserved_range { start: 8 end: 10 }
  reserved_name: "old"
}
message_type { name: "Unused" }
message_type { name: "Outer" nested_type { name: "Inner" } }
enum_type {
  name: "Kind"
  value { name: "KIND_UNSPECIFIED" number: 0 }
  value { name: "KIND_BIG" number: 1 }
  value { name: "KIND_SMALL" number: 2 }
  reserved_range { start: 5 end: 6 }
}
enum_type { name: "Idle" value { name: "IDLE_UNSPECIFIED" number: 0 } }
service {
  name: "Store"
  method { name: "Get" input_type: ".spare.Part" output_type: ".spare.Part" }
  method { name: "Put" input_type: ".spare.Part" output_type: ".spare.Unused" }
}
service { name: "Closed" }
"""

Edit = Callable[[FileDescriptorProto], object]


def _field(**fields: object) -> FieldDescriptorProto:
    return FieldDescriptorProto(**{"label": "LABEL_OPTIONAL", "type": "TYPE_UINT32", **fields})  # type: ignore[arg-type]


def _delete(of: Callable[[FileDescriptorProto], object], index: int) -> Edit:
    return lambda file: of(file).pop(index)  # type: ignore[attr-defined]


def _set(of: Callable[[FileDescriptorProto], object], **values: object) -> Edit:
    return lambda file: [setattr(of(file), name, value) for name, value in values.items()]


BREAKING: dict[str, Edit] = {
    "a field goes": _delete(lambda file: file.message_type[0].field, 0),
    "a field's number changes": _set(lambda file: file.message_type[0].field[0], number=20),
    "a field's name changes": _set(lambda file: file.message_type[0].field[0], name="length", json_name="length"),
    "a field's name in JSON changes": _set(lambda file: file.message_type[0].field[0], json_name="length"),
    "a field's type changes": _set(lambda file: file.message_type[0].field[0], type=FieldDescriptorProto.TYPE_STRING),
    "a field holds more": _set(lambda file: file.message_type[0].field[0], type=FieldDescriptorProto.TYPE_UINT64),
    "a field is a list": _set(lambda file: file.message_type[0].field[0], label=FieldDescriptorProto.LABEL_REPEATED),
    "a list is a field": _set(lambda file: file.message_type[0].field[4], label=FieldDescriptorProto.LABEL_OPTIONAL),
    "a field goes into a oneof": _set(lambda file: file.message_type[0].field[0], oneof_index=0),
    "a field leaves a oneof": lambda file: file.message_type[0].field[2].ClearField("oneof_index"),
    "a oneof is renamed": _set(lambda file: file.message_type[0].oneof_decl[0], name="shade"),
    "a reserved number is free": _delete(lambda file: file.message_type[0].reserved_range, 0),
    "a reserved name is free": _delete(lambda file: file.message_type[0].reserved_name, 0),
    "a message goes": _delete(lambda file: file.message_type[2].nested_type, 0),
    "a message is renamed": _set(lambda file: file.message_type[2], name="Other"),
    "an enumeration goes": _delete(lambda file: file.enum_type, 1),
    "a value goes": _delete(lambda file: file.enum_type[0].value, 2),
    "a value is renamed": _set(lambda file: file.enum_type[0].value[2], name="KIND_TINY"),
    "a value's number changes": _set(lambda file: file.enum_type[0].value[2], number=9),
    "an enumeration's reserved number is free": _delete(lambda file: file.enum_type[0].reserved_range, 0),
    "an rpc goes": _delete(lambda file: file.service[0].method, 0),
    "an rpc takes something else": _set(lambda file: file.service[0].method[0], input_type=".spare.Unused"),
    "an rpc gives something else": _set(lambda file: file.service[0].method[0], output_type=".spare.Unused"),
    "an rpc streams": _set(lambda file: file.service[0].method[0], server_streaming=True),
    "an rpc takes a stream": _set(lambda file: file.service[0].method[0], client_streaming=True),
    "an rpc is no longer safe to repeat": lambda file: (
        file.service[0].method[0].options.CopyFrom(MethodOptions(idempotency_level=MethodOptions.IDEMPOTENT))
    ),
    "a service goes": _delete(lambda file: file.service, 1),
}
HARMLESS: dict[str, Edit] = {
    "nothing": lambda file: None,
    "a field comes": lambda file: file.message_type[0].field.append(_field(name="more", number=6, json_name="more")),
    "a field is deprecated": lambda file: setattr(file.message_type[0].field[0].options, "deprecated", True),
    "a message comes": lambda file: file.message_type.add(name="New"),
    "an enumeration comes": lambda file: file.enum_type.add(name="New").value.add(name="NEW_UNSPECIFIED", number=0),
    "a value comes": lambda file: file.enum_type[0].value.add(name="KIND_HUGE", number=3),
    "an rpc comes": lambda file: file.service[0].method.add(
        name="List", input_type=".spare.Part", output_type=".spare.Part", server_streaming=True
    ),
    "a service comes": lambda file: file.service.add(name="New"),
    "a number is reserved": lambda file: file.message_type[0].reserved_range.add(start=30, end=31),
}


def _set_with(edit: Edit) -> str:
    """Today's contracts and the spare file, changed, as JSON."""
    files = descriptors.today()
    edit(text_format.Parse(FILE, files.file.add()))
    return json_format.MessageToJson(files)


def _breaks(edit: Edit) -> bool:
    changes = descriptors.SUBJECT.changes(_set_with(lambda file: None), _set_with(edit))
    return any(change.breaks for change in changes)


@pytest.mark.parametrize("what", BREAKING)
def test_it_breaks_callers(what: str) -> None:
    assert _breaks(BREAKING[what])


@pytest.mark.parametrize("what", HARMLESS)
def test_it_breaks_nobody(what: str) -> None:
    assert not _breaks(HARMLESS[what])


@pytest.fixture(scope="module")
def buf() -> Path:
    """buf, from npm, kept in build/."""
    folder = ROOT / "build/buf"
    found = list(folder.glob("node_modules/@bufbuild/buf-*/bin/buf"))
    if not found:
        if which("npm") is None:
            pytest.skip("npm is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        installed = subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", f"@bufbuild/buf@{BUF}"],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        found = list(folder.glob("node_modules/@bufbuild/buf-*/bin/buf"))
        if installed.returncode or not found:
            pytest.skip(f"npm cannot install buf: {installed.stderr[-300:]}")
    return found[0]


@pytest.mark.slow
def test_buf_says_the_same(buf: Path, tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text(_set_with(lambda file: None))
    said = {}
    for what, edit in {**BREAKING, **HARMLESS}.items():
        (tmp_path / "after.json").write_text(_set_with(edit))
        checked = subprocess.run(
            [buf, "breaking", "after.json", "--against", "before.json", "--config", CONFIG],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode in (0, 100), checked.stderr
        said[what] = checked.returncode == 100
    assert said == {what: what in BREAKING for what in said}


@pytest.mark.slow
def test_buf_reads_the_committed_files(buf: Path) -> None:
    """As docs/compatibility.md shows it."""
    locked, released = "contract/descriptors.json", "contract/released/descriptors.json"
    checked = subprocess.run(
        [buf, "breaking", locked, "--against", released, "--config", CONFIG],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    changes = descriptors.SUBJECT.changes((ROOT / released).read_text(), (ROOT / locked).read_text())
    assert checked.returncode == (100 if any(change.breaks for change in changes) else 0), (
        checked.stdout + checked.stderr
    )
