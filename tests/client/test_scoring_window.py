"""How many requests a job has under way."""

from mlpserve_client.scoring.running.window import Window


def test_the_window_grows_by_one_a_round_and_halves_at_a_refusal() -> None:
    window = Window(16)
    for _ in range(2 + 3 + 4 + 5 + 6 + 7):
        window.answered(0.01, 100)
    assert window.largest in (7, 8)
    window.refused()
    window.refused()  # of the same moment
    sizes = int(window._size)
    assert sizes in (3, 4)
    assert window.refusals == 2
    for _ in range(1000):
        window.answered(0.01, 100)
    assert window.largest == 16


def test_answers_that_wait_for_one_another_shrink_the_window() -> None:
    window = Window(64)
    for _ in range(200):
        window.answered(0.01, 100)
    grown = window._size
    window.answered(10.0, 100)
    assert window._size < grown
