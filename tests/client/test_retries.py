import grpc
import pytest

from mlpserve_client import UnavailableError
from mlpserve_client.connection import retries
from mlpserve_client.connection.retries import BUDGET_MOST, RetryBudget, RetryPolicy


def test_budget_bounds_what_a_client_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    budget = RetryBudget()
    assert sum(budget.take() for _ in range(2000)) == BUDGET_MOST
    for _ in range(12):  # 2.4
        budget.add()
    assert sum(budget.take() for _ in range(2000)) == 2
    now[0] += 3.0
    assert sum(budget.take() for _ in range(2000)) == 60


def test_a_policy_without_a_number_of_retries_goes_on_until_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    error = UnavailableError("away", grpc.StatusCode.UNAVAILABLE, "127.0.0.1:1")
    few, patient = RetryPolicy(10_000.0, retries=2).begin(), RetryPolicy(10_000.0, retries=None).begin()
    for _ in range(2):
        few.delay(error)
    with pytest.raises(UnavailableError):
        few.delay(error)
    for _ in range(2 * int(BUDGET_MOST)):
        now[0] += patient.delay(error)
    patient.pause(50.0)
    now[0] = 10_149.0
    assert patient.time_left() == 1.0
    now[0] += 2
    with pytest.raises(UnavailableError):
        patient.delay(error)
