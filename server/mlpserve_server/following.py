"""Following the store: a newly published or promoted version takes over while the server runs.

A version is checked, loaded and proven in this thread, and only then handed over, so the loop that answers never waits
for it. A version that fails is refused, and the one before it is tried, as at a start, until the one that serves is
reached, which goes on.
"""

import logging
import threading
import time

from mlpserve.v1.artifact_pb2 import ImageSpec, Preparation
from mlpserve_server.catalog import Catalog, Served
from mlpserve_server.errors import ArtifactError, DeviceError, StartupError, VersionMissing
from mlpserve_server.host.tuning import yield_to_others
from mlpserve_server.loader import Loader
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.store import promotion
from mlpserve_server.store.folder import Store, Version
from mlpserve_server.store.waiting import waiting_for

log = logging.getLogger(__name__)

ACTING_SECONDS = 1.0  # for a hand-over that has begun to end
SHOWN = 3  # classes that have changed
LONGEST_PAUSE = 300.0  # seconds between two trials of a version that was refused


class Follower:
    """Looks at the store every so often.

    Args:
        store: to look at.
        model: name.
        poll: seconds between two looks.
        catalog: knows what serves and what was refused, and is told of what changes.
        loader: loads and proves versions.
        metrics: counts what was tried.
    """

    def __init__(
        self, store: Store, model: str, poll: float, catalog: Catalog, loader: Loader, metrics: Metrics
    ) -> None:
        self._store = store
        self._model = model
        self._poll = poll
        self._catalog = catalog
        self._loader = loader
        self._metrics = metrics
        again = time.monotonic() + poll
        self._retries = dict.fromkeys(catalog.versions(model).refused, (again, 2 * poll))  # when, and the next pause
        self._complaint = ""
        self._stop = threading.Event()
        self._acting = threading.Lock()  # held while what was loaded changes the server
        self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
        self._earlier = self._list_earlier()
        catalog.expect(model, frozenset(self._earlier))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Change nothing from now on; waits for no store, so the thread may go on for a while. See `join`."""
        self._stop.set()
        if self._acting.acquire(timeout=ACTING_SECONDS):
            self._acting.release()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end, after `stop`; False if it has not come: it waits for the store, or proves."""
        if self._thread.is_alive():  # not before `start`
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _follow(self) -> None:
        yield_to_others()
        self._keep_earlier()
        while not self._stop.wait(self._poll):
            try:
                self._look()
                self._complaint = ""
            except StartupError as error:
                self._complain(str(error))
            except Exception:
                log.exception("following the store hit a bug and continues")

    def _current(self) -> Served | None:
        return self._catalog.versions(self._model).serving

    def _list_earlier(self) -> list[int]:
        """The versions before the one that serves, latest first; none if none are to be kept."""
        current = self._current()
        if current is None or not self._catalog.room(self._model):
            return []
        try:
            with waiting_for(f"the versions of {self._model}"):
                numbers = self._store.versions(self._model)
        except StartupError:
            return []  # `_look` says so
        return sorted((number for number in numbers if number < current.version), reverse=True)

    def _keep_earlier(self) -> None:
        """Load the versions before the one that serves, so that a job which names one outlives a restart."""
        for number in self._earlier:
            if not self._catalog.room(self._model) or self._stop.is_set():
                break
            try:
                served = self._loader.load(self._open(number))
                with self._acting:
                    if not self._stop.is_set():
                        self._catalog.keep(served)
            except StartupError as error:
                log.warning("version %d is not kept: %s", number, error)
            except Exception:
                log.exception("keeping version %d hit a bug; the server keeps serving", number)
        with self._acting:
            if not self._stop.is_set():
                self._catalog.expect(self._model, frozenset())

    def _open(self, number: int) -> Version:
        with waiting_for(f"the manifest of version {number}"):
            return self._store.open(self._model, number)

    def _complain(self, message: str) -> None:
        """Say once what is wrong with the store."""
        if message != self._complaint:
            log.error("the store cannot be followed: %s", message)
        self._complaint = message

    def _look(self) -> None:
        """Bring in the version that a server which started now would serve."""
        with waiting_for(f"which version of {self._model} to serve"):
            numbers, promoted = promotion.candidates(self._store, self._model)
        if not promoted:
            self._forget(numbers)
        for number in numbers:
            current = self._current()
            if current is None or number == current.version or self._stop.is_set():
                return
            if not promoted and number < current.version:
                return  # a version that was deleted goes on serving; going back is for `rollback`
            if self._take(number, promoted, current):
                return

    def _forget(self, published: list[int]) -> None:
        """Forget refused versions that were deleted."""
        if self._retries:
            there = set(published)
            self._retries = {number: retry for number, retry in self._retries.items() if number in there}
            self._catalog.forget_refused(self._model, there)

    def _take(self, number: int, promoted: bool, current: Served) -> bool:
        """Try a version, unless it failed not long ago.

        Returns:
            Whether the look is over: it serves, or there is something wrong that is not the version's fault.

        Raises:
            StoreError: the store does not give what it has.
        """
        due, pause = self._retries.get(number, (0.0, self._poll))
        if time.monotonic() < due:
            return False
        self._retries[number] = time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE)
        try:
            version = self._open(number)
            if not promoted:
                _check_same_interface(version, current.model.version)
            served = self._loader.load(version)
        except (ArtifactError, VersionMissing, DeviceError) as error:
            self._refuse(number, str(error), current)
            return isinstance(error, DeviceError)
        except StartupError:
            del self._retries[number]  # it has not been seen
            raise
        with self._acting:
            if self._stop.is_set():
                return True
            self._catalog.serve(served)
        self._retries.pop(number, None)
        self._metrics.reloads["served"] += 1
        precision = served.model.precision_name
        log.info("version %d took over from version %d (%s)", number, current.version, precision)
        return True

    def _refuse(self, number: int, reason: str, current: Served) -> None:
        if self._catalog.versions(self._model).refused.get(number) != reason:
            log.error("version %d is refused, version %d keeps serving: %s", number, current.version, reason)
            self._metrics.reloads["refused"] += 1
        self._catalog.refuse(self._model, number, reason)


def _check_same_interface(new: Version, old: Version) -> None:
    """Callers have read the image size and the labels; they must not change under them unasked.

    Raises:
        ArtifactError: they do.
    """
    changes = [*_changes_of_images(new.manifest.image, old.manifest.image), *_changes_of_labels(new, old)]
    if changes:
        raise ArtifactError(
            f"{new.folder} is not what callers of version {old.manifest.version} rely on: {'; '.join(changes)}. To "
            f"change it on purpose: mlpserve-store promote {new.manifest.model} {new.manifest.version}"
        )


def _changes_of_images(new: ImageSpec, old: ImageSpec) -> list[str]:
    found = []
    if (new.rows, new.cols) != (old.rows, old.cols):
        found.append(f"its images are {new.rows}x{new.cols}, not {old.rows}x{old.cols}")
    if new.preparation != old.preparation:
        names = [Preparation.Name(image.preparation).removeprefix("PREPARATION_").lower() for image in (new, old)]
        found.append(f"its pictures are prepared as {names[0]}, not as {names[1]}")
    return found


def _changes_of_labels(new: Version, old: Version) -> list[str]:
    """What a class id means now and meant before, where that differs."""
    ours, theirs = list(new.manifest.labels), list(old.manifest.labels)
    if ours == theirs:
        return []
    if len(ours) != len(theirs):
        return [f"it has {len(ours)} classes, not {len(theirs)}"]
    changed = [number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    shown = ", ".join(f"{number} is {ours[number]!r} and was {theirs[number]!r}" for number in changed[:SHOWN])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    what = "reordered" if sorted(ours) == sorted(theirs) else "renamed"
    return [f"its classes are {what}: class {shown}{more}"]
