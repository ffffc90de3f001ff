"""Which version servers follow: the promoted one, or, while none is promoted, the newest.

STORE/MODEL/promoted.json   {"version": 3, "previous": [2, 1]}

Each change is one rename, so a server that looks at any moment sees the old state or the new one.
"""

import json
from dataclasses import dataclass

from mlpserve.artifact import LARGEST_NUMBER, PROMOTED
from mlpserve_server.errors import ArtifactError, StoreError
from mlpserve_server.store.folder import Store

REMEMBERED = 20  # versions that a rollback can go back over


@dataclass(frozen=True)
class Promotion:
    """The promoted version and those that were promoted before it, latest first."""

    version: int
    previous: tuple[int, ...] = ()


def read(store: Store, model: str) -> Promotion | None:
    """What is promoted; None if servers follow the newest version.

    Raises:
        StoreError: promoted.json is not what `promote` writes.
    """
    where = f"{store.location}/{model}/{PROMOTED}"
    try:
        written = store.read_promotion(model)
        if written is None:
            return None
        content = json.loads(written)
        promotion = Promotion(content["version"], tuple(content["previous"][:REMEMBERED]))
        if not all(type(n) is int and 0 < n <= LARGEST_NUMBER for n in (promotion.version, *promotion.previous)):
            raise TypeError
    except OSError as error:  # nothing is wrong with what it says
        raise StoreError(f"{where} cannot be read just now: {error.strerror}; leave it as it is") from error
    except (ArtifactError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{where} cannot be read as a promotion ({type(error).__name__}); "
            f"write it again: mlpserve-store --store {store.location} promote {model} VERSION"
        ) from error
    return promotion


def candidates(store: Store, model: str) -> tuple[list[int], bool]:
    """The version that servers should serve, then those to fall back on, and whether it was promoted.

    One look, so that the two belong together. Versions that were promoted once may have been deleted since.

    Raises:
        StoreError: the store or the model is not there, or nothing is published.
    """
    promotion = read(store, model)
    if promotion is None:
        return store.newest_first(model), False
    return [promotion.version, *promotion.previous], True


def promote(store: Store, model: str, version: int) -> int:
    """Make servers serve a version, whatever is newest.

    Returns:
        The version that they served before.

    Raises:
        StoreError: it is not there, or the store cannot be written.
        ArtifactError: one of its files is damaged.
    """
    _verify(store, model, version)
    with store.sole_writer(model):
        try:
            known = read(store, model)
        except StoreError:  # this is the way to mend it
            known = None
        before = [known.version, *known.previous] if known else store.versions(model)
        if known is None or known.version != version:
            previous = tuple(number for number in before if number != version)
            # While the newest was followed, only that one had been served.
            _write(store, model, Promotion(version, previous[: REMEMBERED if known else 1]))
    return before[0]


def rollback(store: Store, model: str) -> tuple[int, int]:
    """Make servers serve the version that they served before.

    Returns:
        The version that was served, and the one that is from now on.

    Raises:
        StoreError: there is none, or the store cannot be written.
        ArtifactError: one of its files is damaged.
    """
    with store.sole_writer(model):
        (current, *older), promoted = candidates(store, model)
        if promoted:
            published = set(store.versions(model))
            older = [number for number in older if number in published]
        if not older:
            raise StoreError(f"model {model!r} in {store.location} has no version before {current} to roll back to")
        _verify(store, model, older[0])
        _write(store, model, Promotion(older[0], tuple(older[1 : 1 + REMEMBERED])))
    return current, older[0]


def follow_newest(store: Store, model: str) -> int:
    """Make servers follow the newest version again.

    Returns:
        The newest version.

    Raises:
        StoreError: the store cannot be written.
    """
    with store.sole_writer(model):
        store.write_promotion(model, None)
        return store.newest_first(model)[0]


def _write(store: Store, model: str, promotion: Promotion) -> None:
    content = {"version": promotion.version, "previous": list(promotion.previous)}
    store.write_promotion(model, json.dumps(content).encode() + b"\n")


def _verify(store: Store, model: str, number: int) -> None:
    version = store.open(model, number)
    version.fetch()
    version.verify()
