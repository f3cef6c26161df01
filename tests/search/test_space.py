"""What of an item is searched when nothing is said of it: all that its schema allows, where that is bounded."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Le

from lab_core.configs import BaseConfigs, schema
from lab_server.model.domain import Anything, Choice, Domain, IntRange
from lab_server.model.search import Budget, Direction, Objective, Sampler, SearchSpec
from lab_server.search.space import resolve


class Configs(BaseConfigs):
    mode: Literal["fast", "slow"] = "fast"
    level: Literal[1, "all", None] = 1
    width: Annotated[int, Ge(1), Le(8)] = 1
    size: Literal["auto"] | int = "auto"
    letters: list[Literal["a", "b"]] = ["a"]  # noqa: RUF012


def spec(key: str) -> SearchSpec:
    objective = Objective("loss", Direction.MINIMIZE)
    return SearchSpec("x", {key: Anything()}, objective, Budget(3), Sampler.RANDOM, seed=1)


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("mode", Choice(("fast", "slow"))),
        ("level", Choice((1, "all", None))),
        ("width", IntRange(1, 8)),
    ],
)
def test_what_is_bounded_is_searched_as_a_whole(key: str, domain: Domain) -> None:
    found, problems = resolve(schema(Configs), spec(key), may_be_grid=False)
    assert (problems, found.space) == ([], {key: domain})


@pytest.mark.parametrize("key", ["size", "letters"])
def test_choices_that_are_not_all_values_are_no_bound(key: str) -> None:
    _, [problem] = resolve(schema(Configs), spec(key), may_be_grid=False)
    assert "neither options nor both a least and a largest value" in problem.message
