from __future__ import annotations

from typing import Any

import pytest

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, plan, schema


class Configs(BaseConfigs):
    optimizer: object
    loop_step: int = "loop_step"  # type: ignore[assignment]


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs) -> str:
    return "sgd"


@Configs.calc(Configs.optimizer)
def adam_optimizer(c: Configs) -> str:
    return "adam"


@Configs.calc(Configs.loop_step)
def loop_step(c: Configs) -> int:
    return 12


def test_the_first_option_is_the_default_and_the_others_can_be_named() -> None:
    assert Configs().optimizer == "sgd"
    assert calculate(Configs, {"optimizer": "adam_optimizer"}).optimizer == "adam"


def test_a_string_that_names_an_option_selects_it_under_any_annotation() -> None:
    assert Configs().loop_step == 12
    assert calculate(Configs, {"loop_step": 3}).loop_step == 3


def test_a_misspelt_option_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match="unknown option 'adam_optimiser' for 'optimizer'; did you"
    ):
        calculate(Configs, {"optimizer": "adam_optimiser"})
    with pytest.raises(ConfigError, match="did you mean 'adam_optimizer'"):
        plan(schema(Configs), {"optimizer": "adam_optimiser"})
    conf = Configs()
    conf.optimizer = "adam_optimiser"
    with pytest.raises(ConfigError, match="did you mean 'adam_optimizer'"):
        calculate(conf)


def test_a_class_value_that_names_no_option_is_an_error() -> None:
    class Child(Configs):
        optimizer = "adagrad"

    class Alone(BaseConfigs):
        loop_step: int = "loop_step"  # type: ignore[assignment]

    with pytest.raises(
        ConfigError, match="the class sets 'optimizer' to the unknown option 'adagrad'"
    ):
        calculate(Child)
    with pytest.raises(ConfigError, match=r"loop_step must be an int.*it has no options"):
        calculate(Alone)
    assert calculate(Child, {"optimizer": "sgd_optimizer"}).optimizer == "sgd"


def test_precedence_is_override_assignment_class_aggregate_option() -> None:
    class Local(BaseConfigs):
        preset: str
        width: object
        filled: object = "class value"

    Local.calc(Local.width, "option")(lambda c: "option")
    Local.calc(Local.width, "other")(lambda c: "other")
    assert Local().width == "option"
    Local.aggregate(Local.preset, "big", (Local.width, "other"), (Local.filled, "aggregate"))
    assert Local().width == "other"
    assert Local().filled == "class value"
    Local.width = 1
    assert Local().width == 1
    conf = Local()
    conf.width = 2
    assert conf.width == 2
    conf = Local()
    conf.width = 2
    assert calculate(conf, {"width": 3}).width == 3


def test_an_aggregate_chooses_for_several_items() -> None:
    class Local(BaseConfigs):
        dataset: str = "small"
        loader: object
        epochs: int

    Local.calc(Local.loader, "small_loader")(lambda c: "small")
    Local.calc(Local.loader, "big_loader")(lambda c: "big")
    Local.aggregate(Local.dataset, "small", (Local.loader, "small_loader"), (Local.epochs, 1))
    Local.aggregate(Local.dataset, "big", (Local.loader, "big_loader"), (Local.epochs, 9))

    conf = Local()
    assert (conf.dataset, conf.loader, conf.epochs) == ("small", "small", 1)
    conf = calculate(Local, {"dataset": "big"})
    assert (conf.dataset, conf.loader, conf.epochs) == ("big", "big", 9)
    resolved = plan(schema(Local), {"dataset": "big", "epochs": 3}).by_key
    assert (resolved["loader"].option, resolved["epochs"].value) == ("big_loader", 3)
    assert schema(Local).by_key["dataset"].options == ("small", "big")
    with pytest.raises(
        ConfigError, match="unknown option 'bigg' for 'dataset'; did you mean 'big'"
    ):
        calculate(Local, {"dataset": "bigg"})


def test_the_first_aggregate_is_the_default_where_nothing_else_is() -> None:
    class Local(BaseConfigs):
        preset: str
        width: int

    Local.aggregate(Local.preset, "small", (Local.width, 1))
    Local.aggregate(Local.preset, "big", (Local.width, 9))
    assert (Local().preset, Local().width) == ("small", 1)


def test_aggregates_that_choose_in_a_circle_are_told() -> None:
    class Local(BaseConfigs):
        a: str
        b: str

    Local.aggregate(Local.a, "x", (Local.b, "y"))
    Local.aggregate(Local.b, "y", (Local.a, "x"))
    [problem] = check(Local)
    assert problem.message == "aggregates choose for each other in a cycle: a -> b -> a"


def test_an_aggregate_that_chooses_an_unknown_option_is_told() -> None:
    class Local(BaseConfigs):
        a: str
        b: object

    Local.calc(Local.b, "left")(lambda c: 1)
    Local.aggregate(Local.a, "x", (Local.b, "lefft"))
    [problem] = check(Local)
    assert "unknown option 'lefft' for 'b'; did you mean 'left'" in problem.message


class Split(BaseConfigs):
    train: object
    valid: object


@Split.calc([Split.train, Split.valid])
def split(c: Split) -> tuple[str, str]:
    return "t", "v"


def test_half_of_a_result_overridden_is_an_error_and_never_lost() -> None:
    given: dict[str, Any] = {"train": 5}
    with pytest.raises(ConfigError, match="'train' is set, but 'split' still computes it together"):
        calculate(Split, given)
    conf = Split()
    conf.valid = 6
    with pytest.raises(ConfigError, match="'valid' is set"):
        calculate(conf)


def test_a_whole_result_overridden_is_fine() -> None:
    conf = calculate(Split, {"train": 5, "valid": 6})
    assert (conf.train, conf.valid) == (5, 6)


def test_a_child_may_compute_half_of_a_result_itself() -> None:
    class Child(Split):
        pass

    Child.calc(Child.train, "own_train")(lambda c: f"own, {c.valid}")
    conf = calculate(Child)
    assert (conf.train, conf.valid) == ("own, v", "v")


def test_half_of_a_result_chosen_by_option_is_an_error_too() -> None:
    class Child(Split):
        pass

    Child.calc([Child.train, Child.valid], "other_split")(lambda c: ("T", "V"))
    with pytest.raises(ConfigError, match="set all of them, or none"):
        plan(schema(Child), {"train": "split"})
    conf = calculate(Child, {"train": "split", "valid": "split"})
    assert (conf.train, conf.valid) == ("t", "v")


def test_an_aggregate_of_the_class_wins_over_those_of_its_base() -> None:
    class Base(BaseConfigs):
        dataset: str = "small"
        model: str = "narrow"
        width: int

    class Child(Base):
        pass

    Base.aggregate(Base.dataset, "small", (Base.width, 1))
    # on another item, as registering the same option again would replace it
    Child.aggregate(Child.model, "narrow", (Child.width, 2))
    assert (Base().width, Child().width) == (1, 2)
    assert plan(schema(Child)).by_key["width"].value == 2


def test_an_aggregate_of_the_class_replaces_the_one_of_its_base() -> None:
    class Base(BaseConfigs):
        dataset: str = "small"
        width: int
        depth: int = 7

    class Child(Base):
        pass

    Child.aggregate(Child.dataset, "small", (Child.width, 2))
    Base.aggregate(Base.dataset, "small", (Base.width, 1))  # later, and further away
    assert (Base().width, Child().width) == (1, 2)
