"""The plan: a config message resolved against a schema, without the class and without torch."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from lab_core.configs.schema.choices import Choice, Chooser
from lab_core.configs.schema.plain import PlainValue
from lab_core.configs.schema.schema import Schema, SchemaItem
from lab_core.configs.schema.validate import (
    aggregate_problems,
    checked_message,
    clean_run_order,
    clean_values,
    default_problems,
    missing_in_run_order,
    partially_overridden_groups,
)
from lab_core.errors import ConfigError

Origin = Literal["default", "override", "option", "computed"]


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One item of a plan.

    Attributes:
        key: its name, dotted when nested.
        value: None if it is computed later, or if the value is None.
        origin: the class's value, the message's, an option, or computed in another way. An aggregate's
            choice counts as an option, or as a default if it is a plain value.
        option: the selected option.
        other_options: the options that were not selected.
        is_hyperparam: given in the message, or marked by the class.
    """

    key: str
    value: PlainValue
    origin: Origin
    option: str | None = None
    other_options: tuple[str, ...] = ()
    is_hyperparam: bool = False


@dataclass(frozen=True)
class Plan:
    """A resolved config message.

    Attributes:
        items: in the order of the schema.
        run_order: items to compute and run targets, flat.
        hash: equal for equal values and options, whether they are defaults or from the message.
    """

    items: tuple[PlanItem, ...]
    run_order: tuple[str, ...]
    hash: str

    @cached_property
    def by_key(self) -> dict[str, PlanItem]:
        """The items by key."""
        return {item.key: item for item in self.items}

    @property
    def known(self) -> dict[str, PlainValue]:
        """Every value that is known before the run; of an item that an option computes the option."""
        return {
            item.key: item.value if item.option is None else item.option
            for item in self.items
            if item.origin != "computed" or item.option is not None
        }

    @property
    def overrides(self) -> dict[str, PlainValue]:
        """The validated values of the message, to pass to `calculate` with the class."""
        return {
            item.key: item.value if item.option is None else item.option
            for item in self.items
            if item.origin == "override"
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain data, ready for `json.dumps`."""
        items = []
        for item in self.items:
            data = asdict(item)
            data["other_options"] = list(item.other_options)
            items.append(data)
        return {"items": items, "run_order": list(self.run_order), "hash": self.hash}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` wrote."""
        return cls(
            items=tuple(
                PlanItem(**{**item, "other_options": tuple(item["other_options"])})
                for item in data["items"]
            ),
            run_order=tuple(data["run_order"]),
            hash=data["hash"],
        )


def plan(
    schema: Schema,
    overrides: Mapping[str, Any] | None = None,
    run_order: Sequence[str | Sequence[str]] | None = None,
    *,
    coerce_strings: bool = False,
) -> Plan:
    """Resolve a config message: each item's value, its origin, and whether it is a hyper-parameter.

    Args:
        schema: of the config class.
        overrides: the message; dotted keys for nested items.
        run_order: items and run targets; by default the schema's.
        coerce_strings: convert strings from a command line to the items' types: "0.01" to a float.

    Raises:
        ConfigError: With all violations at once.
    """
    given = checked_message(overrides)
    clean, problems = clean_values(schema, given, coerce_strings=coerce_strings)
    order, wrong = clean_run_order(schema, run_order)
    chooser = Chooser(schema, clean, {})
    problems += wrong
    problems += default_problems(schema, given)
    problems += aggregate_problems(schema, chooser)
    if not problems:
        problems += partially_overridden_groups(schema, chooser, clean)
        problems += missing_in_run_order(schema, chooser, order)
    if problems:
        raise ConfigError(problems)
    items = tuple(_plan_item(item, chooser.choose(item.key), clean) for item in schema.items)
    return Plan(items, order, config_hash(((i.key, i.value, i.option) for i in items), order))


def _plan_item(item: SchemaItem, choice: Choice, given: Mapping[str, Any]) -> PlanItem:
    return PlanItem(
        key=item.key,
        value=choice.value if choice.has_value else None,
        origin=origin_of(item, choice),
        option=choice.option,
        other_options=tuple(o for o in item.options if o != choice.option),
        is_hyperparam=is_hyperparam(item, given),
    )


def origin_of(item: SchemaItem, choice: Choice) -> Origin:
    """Return the origin of a value, as a plan names it."""
    if choice.source in ("override", "assigned"):
        return "override"
    if choice.option is not None:
        return "option"
    if choice.has_value and (choice.source == "aggregate" or item.has_plain_default):
        return "default"
    return "computed"


def is_hyperparam(item: SchemaItem, given: Container[str]) -> bool:
    """Return whether an item is a hyper-parameter: marked, or given and not marked as never being one."""
    return item.is_hyperparam or (item.key in given and not item.never_hyperparam)


def config_hash(
    resolved: Iterable[tuple[str, PlainValue, str | None]], run_order: Sequence[str]
) -> str:
    """Return a short hash of values and options; 1 and 1.0 differ."""
    import hashlib  # slow to import, and seldom needed
    import json

    items = sorted([key, value, option] for key, value, option in resolved)
    text = json.dumps([items, list(run_order)], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
