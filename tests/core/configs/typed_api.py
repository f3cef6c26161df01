"""Read by mypy alone: what a checker and an editor know of the configs API."""

from __future__ import annotations

from typing import Annotated, assert_type

from annotated_types import Ge

from lab_core.configs import BaseConfigs, Plan, Schema, Violation, calculate, check, option
from lab_core.configs import plan as make_plan
from lab_core.configs import schema as schema_of


class Model:
    width = 3


class Optimizer(BaseConfigs):
    rate: float = 0.1


class Configs(BaseConfigs):
    epochs: Annotated[int, Ge(1)] = 10
    steps: int = option("by_epoch")
    model: Model
    optimizer: Optimizer


@Configs.calc(Configs.steps)
def by_epoch(c: Configs) -> int:
    assert_type(c.epochs, int)
    return c.epochs * 100


@Configs.calc([Configs.model, Configs.epochs], "both")
def both(c: Configs) -> tuple[Model, int]:
    return Model(), 3


@Configs.calc(Configs.optimizer.rate)
def rate(c: Configs) -> float:
    return 1 / c.epochs


@Configs.check
def enough(c: Configs) -> None:
    assert_type(c.steps, int)


Configs.set_hyperparams(Configs.epochs, "steps")
Configs.aggregate(Configs.model, "name", (Configs.epochs, 3))

assert_type(by_epoch(Configs()), int)
conf = calculate(Configs, {"epochs": 3}, ["steps", ["model"]])
assert_type(conf, Configs)
assert_type(calculate(Configs()), Configs)
assert_type(calculate({"epochs": 3}), BaseConfigs)
assert_type(conf.epochs, int)
assert_type(conf.model, Model)
assert_type(conf.optimizer.rate, float)
assert_type(schema_of(Configs), Schema)
assert_type(make_plan(schema_of(Configs), {"epochs": 3}), Plan)
assert_type(check(Configs), tuple[Violation, ...])
conf.epochs = 3
conf.epochs = "three"  # type: ignore[assignment]  # an error, or mypy says that this is unused
conf.epohcs = 3  # type: ignore[attr-defined]
