"""What a chunk's images are answered with."""

import threading
import time
from typing import NamedTuple

from mlpserve_client.client import Client
from mlpserve_client.connection.retries import RetryPolicy
from mlpserve_client.errors import DeadlineExceededError, ModelNotFoundError, OverloadedError, UnavailableError
from mlpserve_client.messages.encoding import Images
from mlpserve_client.messages.predictions import ModelId, Predictions
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs import Chunk, Decoded
from mlpserve_client.scoring.running.task import Task
from mlpserve_client.scoring.running.window import Window
from mlpserve_client.scoring.summary import Busy


class Scored(NamedTuple):
    """A chunk's answers.

    Attributes:
        decoded: its images, and what is wrong with bad rows.
        answers: one for each good row; None if there are none.
        others: the second version's; None without one.
    """

    decoded: Decoded
    answers: Predictions | None = None
    others: Predictions | None = None


class Scorer:
    """Decodes chunks, and asks the job's servers within a window that adapts to what they take.

    Any thread may use it.

    Args:
        task: the job.
        busy: where the time is counted.

    Attributes:
        window: bounds the requests in flight.
    """

    def __init__(self, task: Task, busy: Busy) -> None:
        self._busy = busy
        self._model, self._compared = task.plan.model, task.plan.compared
        # They try nothing again by themselves: the window must learn of every refusal, and a request that waits to be
        # tried again must not take up a place in it.
        self._client = Client(task.endpoint, version=self._model.version, traffic="batch", retries=0)
        self._other: Client | None = None
        if task.compared is not None and self._compared is not None:
            self._other = Client(task.compared, version=self._compared.version, traffic="batch", retries=0)
        self._retry = RetryPolicy(self._client.retry.timeout, retries=None)
        self._closed = threading.Event()
        self.window = Window(task.in_flight)

    def score(self, chunk: Chunk) -> Scored:
        """Decode a chunk and ask for its answers.

        Raises:
            ScoringError: a decoder failed, or the model that answers is not the plan's.
            ServerError: the server failed and kept failing.
            ClientClosedError: the scorer was closed.
        """
        since = time.perf_counter()
        try:
            decoded = chunk.decode()
        except BaseException as error:  # whatever a decoder raises for a row that nobody foresaw, panics too
            raise ScoringError(f"rows from {chunk.start} on: {type(error).__name__}: {error}") from error
        since = self._busy.add("decoding", since)
        if len(decoded.images) == 0:
            return Scored(decoded)
        answers = self._ask(self._client, decoded, self._model)
        others = None
        if self._other is not None and self._compared is not None:
            others = self._ask(self._other, decoded, self._compared)
        self._busy.add("asking", since)
        return Scored(decoded, answers, others)

    def close(self) -> None:
        """End the calls that are under way; nobody waits for their answers."""
        self._closed.set()
        self._client.close()
        if self._other is not None:
            self._other.close()

    def _ask(self, client: Client, decoded: Decoded, model: ModelId) -> Predictions:
        """Answers to a chunk's images, by the version that the job began with."""
        try:
            answers = self._predict(client, decoded.images)
        except ModelNotFoundError as error:
            raise ScoringError(
                f"{error}. The job began with version {model.version}: serve it again (mlpserve-server "
                f"--version {model.version}) and run the same command; finished parts are kept"
            ) from error
        if answers.model != model:
            raise ScoringError(
                f"version {model.version} answered with digest {answers.model.digest[:12]}, the job began with "
                f"{model.digest[:12]}: the server reads another store now. Serve the old one and run the same command"
            )
        return answers

    def _predict(self, client: Client, images: Images) -> Predictions:
        """Answers to images, tried again while the server is away or full."""
        attempts = self._retry.begin()
        while True:
            queued = time.monotonic()
            with self.window.slot():
                attempts.pause(time.monotonic() - queued)  # the job's own queue does not count
                if self._closed.is_set():
                    raise ScoringError("the job has stopped")
                asked = time.perf_counter()
                try:
                    answers = client.predict(images, timeout=attempts.time_left())
                except (OverloadedError, UnavailableError, DeadlineExceededError) as error:
                    self.window.refused()
                    delay = attempts.delay(error)
                else:
                    self.window.answered(time.perf_counter() - asked, len(images))
                    return answers
            self._closed.wait(delay)
