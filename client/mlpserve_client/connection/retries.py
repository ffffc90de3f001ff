"""When a call is tried again: which errors, how often, how soon, and how much of it a client may do in all."""

import random
import time

from mlpserve.numbers import LONGEST, is_seconds
from mlpserve_client.errors import InvalidInputError, OverloadedError, ServerError, UnavailableError

CALL_TIMEOUT = 10.0  # seconds for a whole call with its retries
JOB_TIMEOUT = 60.0  # seconds for one request of a scoring job, with its retries
DEFAULT_RETRIES = 5
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0  # seconds
SHORTEST = 0.001  # seconds of an attempt for which there is no time, so that gRPC reports it
BUDGET_SHARE, BUDGET_PER_SECOND, BUDGET_MOST = 0.2, 20.0, 500.0


class RetryBudget:
    """What one client may spend on further attempts, so that its retries do not keep servers down that are struggling.

    Each call adds a fifth of a retry, each second twenty, up to 500: one restart is bridged by every caller, while in a
    long outage retries are at most a fifth of the calls and twenty a second. Any thread may use it.
    """

    def __init__(self) -> None:
        self._left = BUDGET_MOST
        self._counted = time.monotonic()

    def add(self) -> None:
        """Count a call's first attempt."""
        self._earn(BUDGET_SHARE)

    def take(self) -> bool:
        """Pay for a retry; False when nothing is left for one."""
        self._earn(0.0)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _earn(self, retries: float) -> None:
        now = time.monotonic()
        self._left = min(BUDGET_MOST, self._left + retries + (now - self._counted) * BUDGET_PER_SECOND)
        self._counted = now


def checked(timeout: float) -> float:
    """A timeout that can be waited for.

    Raises:
        InvalidInputError: it is infinite, no number, negative or longer than gRPC can count.
    """
    if not is_seconds(timeout):
        raise InvalidInputError(f"timeout is {timeout:g}; expected seconds, at most {LONGEST:,.0f}. Every call has one")
    return timeout


class RetryPolicy:
    """When the calls of one client are tried again: exponential backoff with jitter, within the call's timeout.

    Every call is pure, so repeating one is safe. Worth it are UNAVAILABLE, and RESOURCE_EXHAUSTED with the server's
    word when to come back. Any thread may use it.

    Args:
        timeout: seconds for a whole call, its retries included.
        retries: most attempts after the first; None: as many as the timeout allows, which no budget bounds either.

    Attributes:
        budget: what is left for retries; None where nothing bounds them.

    Raises:
        InvalidInputError: the timeout is not one.
    """

    def __init__(self, timeout: float, retries: int | None = DEFAULT_RETRIES) -> None:
        self.timeout = checked(timeout)
        self.retries = retries
        self.budget = None if retries is None else RetryBudget()

    def begin(self, timeout: float | None = None) -> "Attempts":
        """The clock of a call that begins now.

        Args:
            timeout: seconds for all its attempts together; None for the policy's own.

        Raises:
            InvalidInputError: the timeout is not one.
        """
        if self.budget is not None:
            self.budget.add()
        return Attempts(self, self.timeout if timeout is None else checked(timeout))


class Attempts:
    """The clock of one call: how long an attempt may take, and whether and when another one may follow.

    Args:
        policy: of the client.
        timeout: seconds for all attempts together.

    Attributes:
        timeout: as given.
    """

    def __init__(self, policy: RetryPolicy, timeout: float) -> None:
        self.timeout = timeout
        self._policy = policy
        self._deadline = time.monotonic() + timeout
        self._made = 0
        self._delay = FIRST_DELAY

    def time_left(self) -> float:
        """Seconds for the next attempt; SHORTEST when there are none."""
        return max(self._deadline - time.monotonic(), SHORTEST)

    def pause(self, seconds: float) -> None:
        """Leave out of the count what the call has waited for its turn."""
        self._deadline += seconds

    def delay(self, error: ServerError) -> float:
        """Seconds to wait before trying again.

        Raises:
            ServerError: `error`, when it must not be retried, or no time, attempt or budget is left.
        """
        if not isinstance(error, UnavailableError | OverloadedError) or self._made == self._policy.retries:
            raise error
        # Jitter, so that callers that were refused together do not come back together.
        delay = max(self._delay * random.uniform(0.5, 1.5), error.retry_after or 0.0)
        if delay >= self._deadline - time.monotonic():
            raise error
        if self._policy.budget is not None and not self._policy.budget.take():
            raise error
        self._made += 1
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        return delay
