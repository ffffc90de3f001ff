import pytest

from mlpserve_trainer.cli import _parse
from mlpserve_trainer.config import TrainConfig, configure
from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.recipes import RECIPES


def test_the_default_is_fast() -> None:
    assert _parse([]) == TrainConfig() == configure("fast")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_flag_overrides_its_recipe_and_nothing_else(recipe: str) -> None:
    plain = _parse(["--recipe", recipe])
    assert plain == configure(recipe)
    changed = _parse(["--recipe", recipe, "--epochs", "3", "--hidden", "7"])
    assert (changed.epochs, changed.hidden) == (3, (7,))
    assert changed == configure(recipe, epochs=3, hidden=(7,))
    assert changed.learning_rate == plain.learning_rate


def test_a_flag_with_the_default_value_overrides_too() -> None:
    """`--warp 0` beside a recipe that warps is meant."""
    assert configure("accurate").warp > 0
    assert _parse(["--recipe", "accurate", "--warp", "0"]).warp == 0


def test_textbook_is_the_tutorial_and_accurate_keeps_its_network() -> None:
    textbook, accurate = configure("textbook"), configure("accurate")
    assert (textbook.schedule, textbook.average, textbook.batch_size, textbook.epochs) == ("constant", 0, 64, 10)
    assert accurate.hidden == (256,)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"warp": -1}, "--warp must be"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be"),
        ({"teachers": -1}, "--teachers must be"),
        ({"teacher_epochs": 0}, "--teacher-epochs must be"),
        ({"start_channels": (8, 0)}, "--start-channels needs numbers"),
        ({"start_epochs": 0}, "--start-epochs must be"),
        ({"temperature": 0}, "--temperature must be above 0"),
        ({"schedule": "step"}, "--schedule must be one of"),
        ({"compute": "int4"}, "--compute must be one of"),
        ({"on_interrupt": "cry"}, "--on-interrupt must be one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_values_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainConfig(**values)  # type: ignore[arg-type]
