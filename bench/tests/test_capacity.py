"""The capacity page is what `bench/tables/capacity.py` computes, and its simulation obeys queueing's laws."""

import math

import pytest
from bench.tables import capacity

FACTS = capacity.measured()


def test_the_page_holds_what_is_computed() -> None:
    page = capacity.PAGE.read_text()
    made = page.partition(capacity.BEGIN)[2].partition(capacity.END)[0].strip()
    assert made == capacity.tables(1e6)


def test_the_fit_is_near_what_was_measured() -> None:
    """It is a line through four points, and the page shows how far it is off."""
    for callers, rate in FACTS.rates.items():
        assert capacity.closed_loop(FACTS, callers) == pytest.approx(rate, rel=0.3)


@pytest.mark.parametrize("rate", [2e4, 1e6, 3e7])
def test_a_plan_carries_its_rate_without_a_zone(rate: float) -> None:
    plan = capacity.plan(FACTS, rate)
    assert plan.replicas % plan.zones == 0
    assert plan.replicas >= rate / (plan.utilisation * FACTS.rates[256])
    left = plan.replicas - plan.replicas // plan.zones
    assert rate <= 0.8 * left * FACTS.rates[256] or left < 3


def test_little_s_law() -> None:
    """What goes in comes out: no request is lost or doubled, and rate times time is the number inside."""
    outcome = capacity.simulate(FACTS, 20_000, 4, seconds=2.0)
    assert outcome.refused == 0
    assert outcome.requests == pytest.approx(40_000, rel=0.03)
    # A lone request takes one batch of one; nobody is faster.
    assert outcome.p50 >= FACTS.batch_seconds(1)


def test_far_below_capacity_nobody_waits() -> None:
    outcome = capacity.simulate(FACTS, 100, 10, seconds=20.0)
    assert outcome.p99 == pytest.approx(FACTS.batch_seconds(1), rel=0.5)
    assert outcome.batch == pytest.approx(1, abs=0.05)


def test_above_capacity_the_queue_fills_and_refuses() -> None:
    outcome = capacity.simulate(FACTS, 4 * FACTS.rates[256], 1, seconds=1.0)
    assert outcome.longest == capacity.MAX_QUEUE
    assert outcome.refused > 0
    assert outcome.busy == pytest.approx(1, abs=0.02)
    assert math.isclose(outcome.batch, capacity.MAX_BATCH, rel_tol=0.1)


def test_the_shorter_of_two_queues_helps_near_saturation() -> None:
    rate = 0.9 * 8 * FACTS.rates[256]
    blind = capacity.simulate(FACTS, rate, 8, seconds=1.0, choose="random")
    informed = capacity.simulate(FACTS, rate, 8, seconds=1.0, choose="two")
    assert informed.longest < blind.longest
