"""What a listing says of each version, remembered: a published version does not change."""

from collections.abc import Hashable, Iterable, Sequence

from mlpserve_server.errors import ArtifactError, StartupError
from mlpserve_server.store.folder import Store
from mlpserve_server.store.manifest import Summary, summarise

MOST_KEPT = 50_000  # versions


class Summaries:
    """Summaries of one model's versions. Belongs to one thread.

    Args:
        store: that they are in.
        model: whose they are.
    """

    def __init__(self, store: Store, model: str) -> None:
        self._store = store
        self._model = model
        self._known: dict[int, tuple[Hashable, Summary]] = {}

    def forget_all_but(self, published: Iterable[int]) -> None:
        """Forget versions that were deleted: another one may get the number."""
        for number in self._known.keys() - set(published):
            del self._known[number]

    def of(self, numbers: Sequence[int]) -> list[Summary | StartupError]:
        """The versions' summaries, or why each cannot be read; only those that are not known yet are read."""
        stamps = {number: self._store.stamp(self._model, number) for number in numbers}
        found: dict[int, Summary | StartupError] = {}
        for number, stamp in stamps.items():
            known = self._known.get(number)
            if known is not None and stamp is not None and known[0] == stamp:
                found[number] = known[1]
        missing = [number for number in numbers if number not in found]
        for number, document in zip(missing, self._store.documents(self._model, missing), strict=True):
            if isinstance(document, StartupError):
                found[number] = document
                continue
            try:
                found[number] = read = summarise(document, self._model, number)
            except ArtifactError as error:
                found[number] = error
                continue
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[number] = stamps[number], read
        return [found[number] for number in numbers]
