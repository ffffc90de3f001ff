"""mlpserve_client's public names: classes with their members, parameters, attributes and bases."""

import ast
import dataclasses
import enum
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from compatibility.facts import Subject, read, write

PROTOCOLS = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__len__", "__iter__", "__getitem__")


def describe() -> str:
    """Today's interface."""
    import mlpserve_client
    from mlpserve_client.messages.predictions import Timing

    facts: dict[str, str] = {}
    named = [getattr(mlpserve_client, name) for name in mlpserve_client.__all__]
    for cls in [*named, Timing]:  # which nobody makes, and Predictions.timing is
        facts |= dict(_class(cls.__name__, cls))
    return write("The interface of mlpserve_client.", facts)


def _class(name: str, cls: type) -> Iterator[tuple[str, str]]:
    yield name, ""
    for base in (base for base in cls.__mro__[1:] if base not in (object, Exception, BaseException)):
        yield f"{name} is a {base.__name__}", ""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("mlpserve_client")]
    for attribute in sorted({attribute for base in ours for attribute in _documented(base)}):
        yield f"{name}.{attribute}", "attribute"
    if not issubclass(cls, Exception):  # which are caught, not made
        yield from _parameters(name, cls)
    members = {key: value for base in reversed(ours) for key, value in vars(base).items()}
    for key, value in members.items():
        if key.startswith("_") and key not in PROTOCOLS:
            continue
        if isinstance(value, property):
            yield f"{name}.{key}", f"property → {_shown(inspect.signature(value.fget).return_annotation)}"  # type: ignore[arg-type]
        elif callable(value) or isinstance(value, classmethod | staticmethod):
            function = getattr(cls, key)
            waits = "async method" if inspect.iscoroutinefunction(function) else "method"
            yield f"{name}.{key}", f"{waits} → {_shown(inspect.signature(function).return_annotation)}"
            if not key.startswith("_"):
                yield from _parameters(f"{name}.{key}", function)


def _documented(cls: type) -> list[str]:
    """What the docstring lists below `Attributes:`, and the fields of data classes and named tuples."""
    block = re.search(r"Attributes:\n((?:[ ]{4,}.*\n|\n)+)", f"{inspect.getdoc(cls)}\n")
    lines = re.findall(r"^    (\w[\w, ]*):", block[1], re.MULTILINE) if block else []
    fields = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    return [*(part for line in lines for part in line.split(", ")), *fields, *getattr(cls, "_fields", ())]


def _parameters(name: str, function: Any) -> Iterator[tuple[str, str]]:
    position = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls", "_cls"):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            (settings,) = typing.get_args(parameter.annotation)
            for key, annotation in typing.get_type_hints(settings).items():
                yield f"{name}({key})", f"keyword {_shown(annotation)}"
                yield f"{name}({key}) default", "not given"
            continue
        position += parameter.kind is not parameter.KEYWORD_ONLY
        where = "keyword" if parameter.kind is parameter.KEYWORD_ONLY else f"position {position} or keyword"
        yield f"{name}({parameter.name})", f"{where} {_shown(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            yield f"{name}({parameter.name}) default", _default(parameter.default)


def _default(value: Any) -> str:
    return value.name if isinstance(value, enum.Enum) else repr(value)


def _shown(annotation: Any) -> str:
    """An annotation without the modules' names."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text.replace('"', "").replace("'", ""))
    return re.sub(r"ndarray\[.*?, dtype\[(\w+)\]\]", r"NDArray[\1]", text)  # numpy writes its own in several ways


def breaks(key: str, old: str | None, new: str | None) -> bool:
    """A parameter may take more than it did, a result may be less; a new one needs a default."""
    if old is None or new is None:
        # A parameter without a default has no line for one: see `facts`.
        return old is not None or new == "required"
    if key.endswith(" default"):
        return new == "required"
    if key.endswith(")"):
        (before, took), (after, takes) = _split(old), _split(new)
        return before != after or not took <= takes
    (before, gave), (after, gives) = _split(old), _split(new)
    return before != after or not gives <= gave


def _split(value: str) -> tuple[str, set[str]]:
    """What is before an annotation, and the members of its union."""
    before, annotation = re.fullmatch(r"(keyword|position \d+ or keyword|.*?→|[^→]*)(.*)", value).groups()  # type: ignore[union-attr]
    try:
        node: ast.AST = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return before, {annotation.strip()}
    parts = []
    while isinstance(node, ast.BinOp):
        parts.append(node.right)
        node = node.left
    return before, {ast.unparse(part) for part in (*parts, node)}


def facts(text: str) -> dict[str, str]:
    """The lines, and `required` for a parameter without a default."""
    found = read(text)
    required = [key for key in found if key.endswith(")") and f"{key} default" not in found]
    return found | {f"{key} default": "required" for key in required}


def names(key: str) -> tuple[str, ...]:
    """A parameter by its own name, a member by its own, a class by its own."""
    name, _, parameter = key.removesuffix(" default").partition(" is a ")[0].removesuffix(")").partition("(")
    return (parameter,) if parameter else (name, name.rpartition(".")[2])


SUBJECT = Subject("client.txt", "mlpserve_client's interface", describe, names, breaks, facts)
