"""Numbers that people give: whatever they are, they are taken, or refused in a sentence before anything begins."""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.processes import run

from mlpserve.numbers import LONGEST, MOST, is_count, is_seconds
from mlpserve_client import AsyncClient, Client, InvalidInputError
from mlpserve_client.commands import flags
from mlpserve_client.connection.retries import RetryPolicy
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ConfigError as ServerConfigError
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.errors import ConfigError, FitError
from mlpserve_trainer.job import train

FLOATS = st.one_of(st.floats(), st.sampled_from([math.inf, -math.inf, math.nan, 9e9, 1e300, LONGEST, LONGEST + 1, 0.0]))
INTEGERS = st.one_of(st.integers(), st.sampled_from([2**31, 2**63, -1, 10**400]))
NUMBERS = st.one_of(FLOATS, INTEGERS)


def _fields(config: type) -> list[str]:
    return [item.name for item in dataclasses.fields(config) if type(item.default) in (int, float)]


@settings(max_examples=300, deadline=None)
@given(NUMBERS)
def test_bounds(value: float) -> None:
    assert is_seconds(value) == (value >= 0 and not value > LONGEST)
    assert is_count(value) == (abs(value) <= MOST)
    assert not (is_count(value) and isinstance(value, float) and not math.isfinite(value))


@pytest.mark.parametrize("name", _fields(ServerConfig))
def test_the_servers_numbers(name: str) -> None:
    whole = isinstance(getattr(ServerConfig, name), int)

    @settings(max_examples=60, deadline=None)
    @given(INTEGERS if whole else FLOATS)
    def hold(value: Any) -> None:
        try:
            config = ServerConfig(**{name: value})
        except ServerConfigError as error:
            assert f"--{name.replace('_', '-')}" in str(error)
        else:
            assert -MOST <= getattr(config, name) <= max(MOST, 2**32 - 1)
            assert whole or getattr(config, name) <= LONGEST

    hold()


@pytest.mark.parametrize("name", [*_fields(TrainConfig), "hidden", "teacher_hidden", "start_channels", "image_size"])
def test_the_trainers_numbers(name: str) -> None:
    several = name in ("hidden", "teacher_hidden", "start_channels", "image_size")
    values = INTEGERS if several or isinstance(getattr(TrainConfig, name), int) else FLOATS

    @settings(max_examples=60, deadline=None)
    @given(values)
    def hold(value: Any) -> None:
        try:
            config = TrainConfig(**{name: (value, value) if several else value})
        except ConfigError as error:
            assert f"--{name.replace('_', '-')}" in str(error)
        else:
            found = getattr(config, name)
            assert all(math.isfinite(number) for number in (found if several else (found,)))

    hold()


@settings(max_examples=100, deadline=None)
@given(FLOATS)
@example(math.inf)
@example(9e9)
def test_timeouts(value: float) -> None:
    if is_seconds(value):
        assert RetryPolicy(value).begin().time_left() <= max(value, 0.001)
        return
    with pytest.raises(InvalidInputError, match=r"timeout is .*; expected seconds, at most 1,000,000"):
        RetryPolicy(value)
    with pytest.raises(InvalidInputError, match="timeout is"):
        RetryPolicy(1.0).begin(value)


def test_clients_refuse_them_at_once() -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(InvalidInputError, match="timeout is inf"):
            make("127.0.0.1:1", timeout=math.inf)
    with Client("127.0.0.1:1") as client, pytest.raises(InvalidInputError, match=r"timeout is 9e\+09"):
        client.predict([[0]], timeout=9e9)


@pytest.mark.parametrize("text", ["inf", "nan", "1e9", "-1", "x"])
def test_flags(text: str) -> None:
    for parse in (flags.seconds, flags.positive_seconds):
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            parse(text)
    assert run("mlpserve", "--timeout", text, "info").returncode == 2


def test_the_commands_say_so(tmp_path: Path) -> None:
    for program, flag in (("mlpserve-server", "--drain-timeout"), ("mlpserve-train", "--learning-rate")):
        done = run(program, flag, "inf")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert f"{flag} is inf; expected" in done.stderr


def test_a_loss_that_is_no_number_ends_in_a_sentence(tmp_path: Path) -> None:
    config = TrainConfig(store=tmp_path, epochs=2, learning_rate=900.0, hidden=(64,) * 12, schedule="constant")
    with pytest.raises(FitError, match=r"the loss is .* after epoch 1.*Lower --learning-rate, which is 900"):
        train(config)
    assert not list((tmp_path / "mnist").glob("[0-9]*"))
