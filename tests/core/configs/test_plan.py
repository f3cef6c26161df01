from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_core.configs import (
    BaseConfigs,
    ConfigError,
    Plan,
    Schema,
    SchemaItem,
    Violation,
    calculate,
    plan,
    schema,
    to_yaml_data,
)


class Configs(BaseConfigs):
    epochs: int = 10
    rate: float = 0.01
    batch_size: int = 64
    device: int = 0
    optimizer: object
    steps: int
    model: dict[str, int]
    width: int


@Configs.calc(Configs.optimizer)
def sgd(c: Configs) -> object:
    raise AssertionError("a plan computes nothing")


@Configs.calc(Configs.optimizer)
def adam(c: Configs) -> object:
    raise AssertionError("a plan computes nothing")


@Configs.calc(Configs.steps)
def by_epoch(c: Configs) -> int:
    return 1


Configs.set_hyperparams(Configs.batch_size)
Configs.set_hyperparams(Configs.device, is_hyperparam=False)


def test_a_plan_says_value_origin_option_and_hyperparameter_of_every_item() -> None:
    found = plan(schema(Configs), {"rate": 1, "optimizer": "adam", "device": 1})
    rows = [(i.key, i.value, i.origin, i.option, i.is_hyperparam) for i in found.items]
    assert rows == [
        ("epochs", 10, "default", None, False),
        ("rate", 1.0, "override", None, True),
        ("batch_size", 64, "default", None, True),
        ("device", 1, "override", None, False),
        ("optimizer", None, "override", "adam", True),
        ("steps", None, "option", "by_epoch", False),
        ("model", None, "computed", None, False),
        ("width", None, "computed", None, False),
    ]
    assert found.by_key["optimizer"].other_options == ("sgd",)
    assert found.overrides == {"rate": 1.0, "device": 1, "optimizer": "adam"}


def test_the_overrides_of_a_plan_give_the_same_plan_again() -> None:
    found = schema(Configs)
    first = plan(found, {"rate": "0.5", "optimizer": "adam"}, coerce_strings=True)
    assert plan(found, first.overrides, first.run_order) == first


def test_the_hash_is_that_of_values_and_options_whatever_their_origin() -> None:
    found = schema(Configs)
    default = plan(found).hash
    assert plan(found, {"epochs": 10, "optimizer": "sgd"}).hash == default
    assert plan(found, {"optimizer": "adam"}).hash != default
    assert plan(found, {"epochs": 11}).hash != default
    assert plan(found, {"rate": 1}).hash == plan(found, {"rate": 1.0}).hash


def test_the_hash_is_also_that_of_the_run_order() -> None:
    found = schema(Configs)
    default = plan(found, None, ["steps", "epochs"]).hash
    assert plan(found, None, [["steps"], "epochs"]).hash == default
    assert plan(found, None, ["epochs", "steps"]).hash != default
    assert plan(found, None, ["steps"]).hash != default


def test_a_plan_and_the_run_it_becomes_have_one_hash() -> None:
    order = ["steps", "epochs"]
    conf = calculate(Configs, {"rate": 0.5}, order)
    assert to_yaml_data(conf)["hash"] == plan(schema(Configs), {"rate": 0.5}, order).hash


def test_the_run_order_is_flat_and_its_names_are_checked() -> None:
    found = schema(Configs)
    assert plan(found, None, ["steps", ["epochs", "rate"]]).run_order == ("steps", "epochs", "rate")
    with pytest.raises(
        ConfigError, match="unknown name 'stesp' in the run order; did you mean 'st"
    ):
        plan(found, None, ["stesp"])


def test_a_missing_value_matters_only_when_the_run_order_names_it() -> None:
    found = schema(Configs)
    plan(found)
    with pytest.raises(ConfigError, match="'width' is in the run order but has no value"):
        plan(found, None, ["width"])
    plan(found, {"width": 3}, ["width"])


plain = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.none(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    keys = draw(st.lists(names, unique=True, min_size=1, max_size=6))
    items = []
    for key in keys:
        options = tuple(draw(st.lists(names, unique=True, max_size=2)))
        default = None if options else draw(plain)
        items.append(
            SchemaItem(
                key,
                type="any",
                default=default,
                has_default=not options,
                options=options,
                functions=options,
                doc=draw(st.text(max_size=5)),
                constraints=draw(st.dictionaries(st.sampled_from(["note"]), plain, max_size=1)),
                is_hyperparam=draw(st.booleans()),
            )
        )
    return Schema("Configs", "doc", tuple(items), ("run",), ("run",))


def same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down: 1 is not 1.0."""
    return repr(left) == repr(right)


@pytest.mark.slow
@given(schemas(), st.data())
def test_any_schema_and_plan_survive_json_with_their_types(
    found: Schema, data: st.DataObject
) -> None:
    again = Schema.from_json(json.loads(json.dumps(found.to_json())))
    assert same(again, found)
    free = [item.key for item in found.items if not item.options]
    message = data.draw(st.dictionaries(st.sampled_from(free), plain)) if free else {}
    resolved = plan(found, message)
    assert same(Plan.from_json(json.loads(json.dumps(resolved.to_json()))), resolved)
    assert same(
        resolved.overrides, {i.key: message[i.key] for i in found.items if i.key in message}
    )


def refusals(message: dict[str, Any], coerce: bool) -> tuple[Violation, ...]:
    try:
        found = plan(schema(Configs), message, coerce_strings=coerce)
    except ConfigError as error:
        return error.violations
    assert {i.key for i in found.items if i.origin == "override"} == set(message)
    return ()


@pytest.mark.slow
@given(st.dictionaries(st.text(), plain | st.just(math.nan)))
def test_any_message_is_planned_or_refused_with_sentences(message: dict[str, Any]) -> None:
    for coerce in (False, True):
        assert all(v.message for v in refusals(message, coerce))


@pytest.mark.slow
@given(st.sampled_from(["epochs", "rate", "optimizer", "steps", "model"]), plain)
def test_any_value_of_a_known_key_is_planned_or_refused(key: str, value: Any) -> None:
    for coerce in (False, True):
        assert [v.key for v in refusals({key: value}, coerce)] in ([], [key])
