"""Names that are not UTF-8, and the order and sameness of class labels."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from mlpserve.files import labels, names


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=12), st.sampled_from([b"caf\xe9", b"\\xe9", b"\\x5cxe9", b"a\\b", b"\xff\\xff"])))
def test_every_name_becomes_text_and_back(content: bytes) -> None:
    name = os.fsdecode(content)
    text = names.text(name)
    text.encode()
    assert names.raw(text) == name
    if name.isprintable() and "\\x" not in name:
        assert text == name


def test_two_names_never_become_one() -> None:
    assert names.text(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert names.text("caf\\xe9") == "caf\\x5cxe9"


def test_numbers_sort_as_numbers() -> None:
    assert labels.ordered(map(str, [10, 2, 1, 0, 11])) == ["0", "1", "2", "10", "11"]
    assert labels.ordered(["10", "2", "cat"]) == ["10", "2", "cat"]
    assert labels.ordered(["010", "9"]) == ["010", "9"], "a name with a zero in front is text"
    assert labels.ordered(["1", "-1"]) == ["-1", "1"]


def test_labels_that_look_the_same() -> None:
    assert labels.doubled(["a", "b", "a"]) == [("a", "a")]
    assert labels.doubled(["caf\u00e9", "cafe\u0301"]) == [("caf\u00e9", "cafe\u0301")]
    assert labels.doubled([" a", "a\u00a0"]) == [(" a", "a\u00a0")]
    assert labels.doubled(["a", "A", "0", "00"]) == []


def test_labels_that_mislead() -> None:
    assert labels.misleading([str(n) for n in range(12)]) is None
    assert labels.misleading(sorted(str(n) for n in range(12))) == "10"
    assert labels.misleading([str(n) for n in range(1, 4)]) == "1"
    assert labels.misleading(["cat", "1", "dog"]) is None
    assert labels.misleading(["cat", "0"]) == "0"
