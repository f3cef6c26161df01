"""Types of several alternatives, each with bounds of its own."""

from __future__ import annotations

from typing import Annotated

import pytest
from annotated_types import Ge, Gt, Len, Lt

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, plan, schema


class Unions(BaseConfigs):
    count: Annotated[int, Ge(1)] | float = 2
    either: Annotated[int, Ge(1)] | Annotated[float, Gt(0)] = 1
    chance: Annotated[int, Ge(2)] | Annotated[int, Ge(5)] | None = None
    switch: Annotated[int, Ge(1)] | bool = True
    word: Annotated[str, Len(3)] | list[int] = "abc"
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.99)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 0.5),
        ("count", 1),
        ("count", 0),  # as a float
        ("either", 0.5),
        ("either", 1),
        ("chance", 2),
        ("switch", False),
        ("switch", 1),
        ("word", [1]),
        ("word", "abcd"),
        ("betas", [0.0, 0.5]),
    ],
)
def test_a_bound_of_one_alternative_does_not_bind_the_others(key: str, value: object) -> None:
    assert check(Unions, {key: value}) == ()
    assert plan(schema(Unions), {key: value}).by_key[key].value == value


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("either", 0, "either must be at least 1, got 0"),
        ("either", -0.5, "either must be greater than 0, got -0.5"),
        ("chance", 1, "chance must be at least 2, got 1"),
        ("switch", 0, "switch must be at least 1, got 0"),
        ("word", "ab", "word must have a length of at least 3, got 2"),
        ("betas", [0.9, 1.0], "betas must be less than 1, got 1.0"),
    ],
)
def test_a_value_that_no_alternative_takes_is_told(key: str, value: object, sentence: str) -> None:
    [problem] = check(Unions, {key: value})
    assert (problem.key, problem.message[: len(sentence)]) == (key, sentence)
    conf = Unions()
    setattr(conf, key, value)
    with pytest.raises(ConfigError, match=sentence):
        calculate(conf)
