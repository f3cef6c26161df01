"""Every line of lab's shortcomings that is about configs, each named after what we do instead."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from lab_core.configs import BaseConfigs, ConfigError, calculate, plan, schema, to_yaml_data


class Base(BaseConfigs):
    epochs: int = 10
    rate: float = 1.0
    model: object
    train: object
    valid: object
    needless: int


@Base.calc(Base.model)
def cnn(c: Base) -> str:
    return f"cnn {c.rate}"


@Base.calc([Base.train, Base.valid])
def split(c: Base) -> tuple[str, str]:
    return "train", "valid"


def test_a_misspelt_option_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown option 'cnnn' for 'model'; did you mean 'cnn'?"
    ):
        calculate(Base, {"model": "cnnn"})


def test_an_unknown_override_key_is_told_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown config 'epoch'; did you mean 'epochs'?"):
        calculate(Base, {"epoch": 3})


def test_a_cycle_is_told_with_a_sentence_only_when_it_is_met() -> None:
    class Child(Base):
        a: int
        b: int

    Child.calc(Child.a)(lambda c: c.b)
    Child.calc(Child.b)(lambda c: c.a)
    conf = calculate(Child, None, ["model"])
    with pytest.raises(ConfigError, match="'a' depends on itself: a -> b -> a"):
        _ = conf.a


def test_a_missing_value_is_told_with_a_sentence_only_when_it_is_needed() -> None:
    conf = calculate(Base, None, ["model"])
    with pytest.raises(ConfigError, match="'needless' has no value: give it one, or register"):
        _ = conf.needless


def test_reading_a_child_class_does_not_change_its_parents_items() -> None:
    before = schema(Base).to_json()

    class Child(Base):
        epochs = 3
        extra: int = 1

    Child.calc(Child.model, "transformer")(lambda c: "transformer")
    calculate(Child, {"model": "transformer"})
    assert schema(Base).to_json() == before
    assert Base().epochs == 10


def test_inheritance_is_pythons_order() -> None:
    class Left(Base):
        epochs = 1

    class Right(Base):
        epochs = 2

    class Both(Right, Left):
        pass

    assert calculate(Both).epochs == 2


def test_configs_passed_on_whole_aliased_or_read_by_getattr_work() -> None:
    class Child(Base):
        pass

    def elsewhere(configs: Any) -> str:
        alias = configs
        return f"{getattr(alias, 'epochs')} {alias.rate}"  # noqa: B009

    Child.calc(Child.model, "anywhere")(elsewhere)
    conf = calculate(Child, None, ["model"])
    assert conf.model == "10 1.0"
    assert to_yaml_data(conf)["items"]["model"]["reads"] == ["epochs", "rate"]


def test_types_survive_being_saved() -> None:
    conf = calculate(Base, {"rate": 2})
    saved = yaml.safe_load(yaml.safe_dump(to_yaml_data(conf)))["items"]
    assert repr(saved["rate"]["value"]) == "2.0"
    assert repr(saved["epochs"]["value"]) == "10"


def test_half_of_a_multi_target_result_overridden_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'valid' is set, but 'split' still computes it together"):
        calculate(Base, {"valid": 3})
    with pytest.raises(ConfigError, match="must be one of its options 'split', got 3"):
        plan(schema(Base), {"valid": 3})


_ORDER = """
from lab_core.configs import BaseConfigs, calculate, listing, schema
calls = []
class Configs(BaseConfigs):
    pass
for name in ("zebra", "ant", "mouse", "cat"):
    Configs.calc(name)(lambda name=name: calls.append(name))
Configs.calc("root")(lambda c: (c.mouse, c.zebra, c.cat, c.ant))
conf = calculate(Configs, {}, ["root"])
print(calls, [str(row) for row in listing(conf)], schema(Configs).to_json())
"""


def test_the_order_of_siblings_does_not_depend_on_the_hash_seed() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", _ORDER],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].startswith("['mouse', 'zebra', 'cat', 'ant']")
