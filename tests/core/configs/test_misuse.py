"""What is passed that is no config class, message or run order, and functions in the wrong place."""

from __future__ import annotations

import math
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, plan, schema


class Configs(BaseConfigs):
    epochs: Annotated[int, Ge(1)] = 3

    def run(self) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("mnist",), "configs must be a config class, an instance of one or a dict, got 'mnist'"),
        ((None,), "configs must be a config class, an instance of one or a dict, got None"),
        ((int,), "configs must be a config class, an instance of one or a dict, got <class 'int'>"),
        (
            (Configs, ["epochs=3"]),
            r"overrides must be a dict, such as {'epochs': 2}, got \['epochs=3'\]",
        ),
        ((Configs, {}, 5), "the run order must be a list of names, got 5"),
        ((Configs, {}, [5]), "the run order must be a list of names, got 5 in it"),
        ((Configs, {}, [["run", None]]), "the run order must be a list of names, got None in it"),
    ],
)
def test_what_is_no_config_message_is_told(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        calculate(*arguments)


def test_the_other_ways_in_tell_it_too() -> None:
    with pytest.raises(ConfigError, match="overrides must be a dict"):
        plan(schema(Configs), "epochs=3")  # type: ignore[arg-type]
    [problem] = check(Configs, {}, [5])  # type: ignore[list-item]
    assert (problem.key, "got 5 in it" in problem.message) == ("run_order", True)


@pytest.mark.parametrize("name", ["run", "check", "calc"])
def test_an_item_cannot_take_the_place_of_a_method(name: str) -> None:
    class Local(Configs):
        pass

    with pytest.raises(ConfigError, match=f"{name!r} is a method of Local; give the item another"):
        Local.calc(name)(lambda: 1)
    with pytest.raises(ConfigError, match=f"{name!r} is a method of Local; give the item another"):
        Local.aggregate(name, "quick", ("epochs", 1))
    assert (Local().epochs, check(Local)) == (3, ())


def test_what_an_aggregate_chooses_is_checked_and_converted() -> None:
    class Presets(BaseConfigs):
        preset: str = "good"
        size: Annotated[int, Ge(1)]
        rate: float

    Presets.aggregate(Presets.preset, "good", (Presets.size, 1), (Presets.rate, 1))
    Presets.aggregate(Presets.preset, "bad", (Presets.size, 0), (Presets.rate, True))
    found = calculate(Presets)
    assert (found.size, repr(found.rate)) == (1, "1.0")
    assert plan(schema(Presets)).by_key["rate"].value == 1.0
    expected = ["size must be at least 1, got 0", "rate must be a float, got True"]
    assert [str(problem) for problem in check(Presets, {"preset": "bad"})] == expected
    with pytest.raises(ConfigError) as caught:
        plan(schema(Presets), {"preset": "bad"})
    assert str(caught.value).splitlines() == expected
    assert check(Presets, {"preset": "bad", "size": 2, "rate": 0.5}) == ()


def test_the_same_override_again_is_fine_also_if_it_is_nan() -> None:
    class Local(BaseConfigs):
        rate: float = 0.1

    conf = calculate(Local, {"rate": math.nan}, ["rate"])
    assert calculate(conf, {"rate": math.nan}) is conf
