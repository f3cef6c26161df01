from __future__ import annotations

from typing import Annotated

import pytest
from annotated_types import Ge

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, computed
from lab_core.configs.schema.suggest import did_you_mean


class Model: ...


class Configs(BaseConfigs):
    kernel: Annotated[int, Ge(1)] = 5
    pad: int = 0
    size: int
    epochs: Annotated[int, Ge(1)] = 1
    model: Model
    heavy: Model


@Configs.calc(Configs.size)
def size(c: Configs) -> int:
    return 28 - c.kernel + 2 * c.pad


@Configs.calc(Configs.heavy)
def heavy(c: Configs) -> Model:
    raise AssertionError("checks build nothing")


@Configs.check
def kernel_fits(c: Configs) -> None:
    if c.size < 1:
        raise ValueError(f"a kernel of {c.kernel} leaves nothing of the image")


def test_a_check_tells_its_sentence_with_the_items_it_read() -> None:
    [problem] = check(Configs, {"kernel": 40})
    assert problem.message == "a kernel of 40 leaves nothing of the image"
    assert problem.key == "kernel, pad"
    assert check(Configs, {"kernel": 3}) == ()


def test_a_failed_check_stops_a_calculation_before_anything_is_built() -> None:
    conf = Configs()
    with pytest.raises(ConfigError, match="leaves nothing of the image"):
        calculate(conf, {"kernel": 40}, ["heavy"])
    assert computed(conf) == {}


def test_constraints_and_checks_are_told_together() -> None:
    problems = check(Configs, {"kernel": 40, "epochs": -3, "epoks": 1})
    assert [p.key for p in problems] == ["epochs", "epoks", "kernel, pad"]


def test_a_check_of_a_broken_item_is_passed_over() -> None:
    [problem] = check(Configs, {"kernel": "five"})
    assert problem.message == "kernel must be an int, got 'five'"


def test_checks_do_not_fix_the_values_they_read() -> None:
    conf = calculate(Configs)
    conf.kernel = 3
    assert conf.size == 25


def test_a_check_may_read_plain_items_only() -> None:
    class Child(Configs):
        pass

    @Child.check
    def reads_the_model(c: Child) -> None:
        _ = c.heavy

    [problem] = check(Child)
    assert (
        problem.message
        == "the check 'reads_the_model' may only read plain items, and heavy is not plain"
    )


def test_a_bug_in_a_check_is_told_as_a_problem_of_the_message() -> None:
    class Child(Configs):
        pass

    @Child.check
    def divides(c: Child) -> None:
        _ = 1 // c.pad

    [problem] = check(Child)
    assert problem.key == "pad"
    assert problem.message.startswith("the check 'divides' failed with ZeroDivisionError")


def test_a_child_inherits_checks_and_may_replace_them() -> None:
    class Child(Configs):
        pass

    assert check(Child, {"kernel": 40})

    @Child.check
    def kernel_fits(c: Child) -> None:
        pass

    assert not check(Child, {"kernel": 40})
    assert check(Configs, {"kernel": 40})


def test_a_missing_value_that_a_check_needs_is_told() -> None:
    class Local(BaseConfigs):
        width: int

    @Local.check
    def positive(c: Local) -> None:
        if c.width < 1:
            raise ValueError("too thin")

    [problem] = check(Local)
    assert problem.message.startswith("'width' has no value")


def test_what_is_wrong_with_the_class_itself_is_told() -> None:
    class Local(BaseConfigs):
        epochs: Annotated[int, Ge(1)] = 0
        rate: float = "fast"  # type: ignore[assignment]

    assert [str(p) for p in check(Local)] == [
        "epochs must be at least 1, got 0, set by the class",
        "rate must be a float, but the class sets it to 'fast', and it has no options",
    ]
    assert check(Local, {"epochs": 1, "rate": 1}) == ()


class Encoder(BaseConfigs):
    width: Annotated[int, Ge(1)] = 8
    heads: int = 2


@Encoder.check
def heads_divide_width(c: Encoder) -> None:
    if c.width % c.heads:
        raise ValueError(f"{c.heads} heads do not divide a width of {c.width}")


class Outer(BaseConfigs):
    encoder: Encoder
    limit: int = 16


@Outer.check
def encoder_is_narrow(c: Outer) -> None:
    if c.encoder.width > c.limit:
        raise ValueError(f"an encoder of {c.encoder.width} is wider than {c.limit}")


def test_checks_of_nested_configs_are_run_with_their_keys() -> None:
    assert check(Outer) == ()
    [problem] = check(Outer, {"encoder.heads": 3})
    assert problem.key == "encoder.width, encoder.heads"
    assert problem.message == "3 heads do not divide a width of 8"


def test_checks_read_what_a_nested_instance_was_assigned() -> None:
    encoder = Encoder()
    encoder.width = 20
    conf = Outer()
    conf.encoder = encoder
    with pytest.raises(ConfigError, match="an encoder of 20 is wider than 16"):
        calculate(conf)
    # the check read a copy: the instance itself is still to be handed over
    assert calculate(conf, {"limit": 32}).encoder is encoder


def test_checks_of_a_nested_instance_read_what_it_was_assigned() -> None:
    encoder = Encoder()
    encoder.heads = 3
    conf = Outer()
    conf.encoder = encoder
    with pytest.raises(ConfigError, match="3 heads do not divide a width of 8"):
        calculate(conf)
    assert calculate(conf, {"encoder": {"heads": 4}}).encoder.heads == 4


@pytest.mark.parametrize(
    ("short", "meant"),
    [
        ("lr", "'learning_rate'"),
        ("LR", "'learning_rate'"),
        ("adam", "'adam_optimizer'"),
        ("momentum", "'optimizer.momentum'"),
        ("bs", "'batch_size'"),
        ("size", "'batch_size'"),
        ("learning_rat", "'learning_rate'"),
    ],
)
def test_an_abbreviation_finds_the_name_that_it_stands_for(short: str, meant: str) -> None:
    known = ["learning_rate", "adam_optimizer", "optimizer.momentum", "batch_size", "b"]
    assert did_you_mean(short, known) == f"; did you mean {meant}?"


def test_what_is_no_abbreviation_lists_what_there_is() -> None:
    assert did_you_mean("x", ["xylo_phone", "rate"]) == "; there is 'xylo_phone', 'rate'"
