import pytest

from mlpserve_client.connection import retries
from mlpserve_client.connection.retries import BUDGET_MOST, RetryBudget


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
