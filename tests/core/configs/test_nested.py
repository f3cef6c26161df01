from __future__ import annotations

from collections.abc import Iterable

import pytest

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, hyperparams, plan, schema


class OptimizerConfigs(BaseConfigs):
    learning_rate: float = 0.01  # the size of a step
    momentum: float = 0.5
    parameters: Iterable[object]
    optimizer: object


@OptimizerConfigs.calc(OptimizerConfigs.optimizer)
def sgd(c: OptimizerConfigs) -> tuple[object, ...]:
    return ("sgd", c.learning_rate, c.momentum, c.parameters)


@OptimizerConfigs.calc(OptimizerConfigs.optimizer)
def adam(c: OptimizerConfigs) -> tuple[object, ...]:
    return ("adam", c.learning_rate, c.parameters)


@OptimizerConfigs.check
def momentum_is_no_growth(c: OptimizerConfigs) -> None:
    if c.momentum >= 1:
        raise ValueError(f"a momentum of {c.momentum} never forgets")


class MyOptimizer(OptimizerConfigs):
    nesterov: bool = False


class Configs(BaseConfigs):
    width: int = 3
    optimizer: OptimizerConfigs


@Configs.calc(Configs.optimizer.parameters)
def parameters(c: Configs) -> list[int]:
    return [c.width]


def test_items_of_nested_configs_have_dotted_keys() -> None:
    found = schema(Configs)
    assert found.keys() == [
        "width",
        "optimizer",
        "optimizer.learning_rate",
        "optimizer.momentum",
        "optimizer.parameters",
        "optimizer.optimizer",
    ]
    assert found.by_key["optimizer"].is_nested
    assert found.by_key["optimizer.learning_rate"].doc == "the size of a step"
    assert found.by_key["optimizer.optimizer"].options == ("sgd", "adam")


def test_nested_items_are_overridden_by_dotted_keys_or_dicts() -> None:
    for overrides in (
        {"optimizer.momentum": 0.9, "optimizer.optimizer": "adam"},
        {"optimizer": {"momentum": 0.9, "optimizer": "adam"}},
    ):
        conf = calculate(Configs, overrides)
        assert conf.optimizer.momentum == 0.9
        assert conf.optimizer.optimizer == ("adam", 0.01, [3])
        assert hyperparams(conf) == {"optimizer.momentum": 0.9, "optimizer.optimizer": "adam"}


def test_the_outer_class_computes_for_the_nested_one() -> None:
    assert Configs().optimizer.optimizer == ("sgd", 0.01, 0.5, [3])


def test_assignments_reach_into_nested_configs() -> None:
    conf = Configs()
    conf.optimizer.momentum = 0.7
    conf.width = 4
    assert calculate(conf).optimizer.optimizer == ("sgd", 0.01, 0.7, [4])
    with pytest.raises(
        ConfigError, match=r"'optimizer\.momentum' was read already by 'optimizer\.opt"
    ):
        conf.optimizer.momentum = 0.8


def test_unknown_nested_keys_are_told() -> None:
    problems = check(Configs, {"optimizer.momentun": 1.0, "optimizer": 3})
    assert [str(p) for p in problems] == [
        "unknown config 'optimizer.momentun'; did you mean 'optimizer.momentum'?",
        "optimizer is a group of configs; set one of them, like 'optimizer.name'",
    ]
    with pytest.raises(ConfigError, match="did you mean 'momentum'"):
        Configs().optimizer.momentun = 3  # type: ignore[attr-defined]


def test_checks_of_nested_configs_run() -> None:
    [problem] = check(Configs, {"optimizer.momentum": 1.5})
    assert (problem.key, problem.message) == (
        "optimizer.momentum",
        "a momentum of 1.5 never forgets",
    )


def test_a_function_may_make_the_nested_configs() -> None:
    class Local(BaseConfigs):
        optimizer: OptimizerConfigs

    @Local.calc(Local.optimizer)
    def my_optimizer(c: Local) -> OptimizerConfigs:
        made = MyOptimizer()
        made.parameters = [1]
        made.momentum = 0.1
        return made

    conf = calculate(Local, {"optimizer.learning_rate": 1})
    assert conf.optimizer.optimizer == ("sgd", 1.0, 0.1, [1])
    assert isinstance(conf.optimizer, MyOptimizer)
    assert conf.optimizer.nesterov is False
    conf = calculate(Local, {"optimizer.momentum": 0.9})
    assert conf.optimizer.optimizer == ("sgd", 0.01, 0.9, [1])


def test_an_instance_as_class_value_gives_its_assignments_as_defaults() -> None:
    preset = OptimizerConfigs()
    preset.momentum = 0.2

    class Local(BaseConfigs):
        optimizer: OptimizerConfigs = preset

    first, second = Local(), Local()
    first.optimizer.momentum = 0.3
    assert second.optimizer.momentum == 0.2
    assert first.optimizer.momentum == 0.3
    assert plan(schema(Local)).by_key["optimizer.momentum"].value == 0.2
    assert preset.momentum == 0.2


def test_nested_configs_nest() -> None:
    class Outer(BaseConfigs):
        inner: Configs

    conf = calculate(Outer, {"inner.optimizer.learning_rate": 2, "inner.width": 7})
    assert conf.inner.optimizer.optimizer == ("sgd", 2.0, 0.5, [7])
    assert Outer.inner.optimizer.momentum.key == "inner.optimizer.momentum"  # type: ignore[attr-defined]


def test_configs_nested_in_themselves_are_told() -> None:
    with pytest.raises(ConfigError, match="Endless is nested in itself"):
        schema(Endless)


class Endless(BaseConfigs):
    again: Endless


def test_a_plain_dict_is_a_config_too() -> None:
    conf = calculate({"rate": 0.1, "model": {"width": 3}}, {"model": {"width": 4}, "rate": 1})
    assert hyperparams(conf) == {"rate": 1.0, "model.width": 4}
    with pytest.raises(ConfigError, match="unknown config 'rat'; did you mean 'rate'"):
        calculate({"rate": 0.1}, {"rat": 1})
    with pytest.raises(ConfigError, match="'learning rate' cannot name a config"):
        calculate({"learning rate": 0.1})


def test_a_plain_dict_may_hold_functions_as_values() -> None:
    conf = calculate({"activation": abs, "loss": lambda x: x})
    assert conf.activation(-1) == 1  # type: ignore[attr-defined]
    assert conf.loss(2) == 2  # type: ignore[attr-defined]


def test_configs_that_were_read_already_cannot_be_handed_over() -> None:
    class Local(BaseConfigs):
        optimizer: OptimizerConfigs

    @Local.calc(Local.optimizer)
    def used(c: Local) -> OptimizerConfigs:
        made = OptimizerConfigs()
        assert made.momentum == 0.5
        return made

    with pytest.raises(
        ConfigError, match="items of 'optimizer' were read before it was assigned: momentum"
    ):
        _ = Local().optimizer


def test_code_may_override_nested_configs_with_an_instance() -> None:
    made = MyOptimizer()
    made.momentum = 0.25
    conf = calculate(Configs, {"optimizer": made})
    assert conf.optimizer is made
    with pytest.raises(
        ConfigError, match="the value of 'optimizer' already belongs to other configs"
    ):
        calculate(Configs, {"optimizer": made}, ["optimizer"])
    assert conf.optimizer.optimizer == ("sgd", 0.01, 0.25, [3])
