"""Where an item's value comes from: the order of precedence, in one place.

override > assignment on the instance > class value > aggregate > first option > built from its class
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from lab_core.configs.schema.schema import Aggregate, Schema, SchemaItem
from lab_core.errors import ConfigError, Violation

ValueSource = Literal["override", "assigned", "default", "aggregate", "option", "built", "missing"]


class Choice(NamedTuple):  # each item of each class has some: a frozen dataclass takes longer
    """Where one item's value comes from.

    Attributes:
        source: the rule that applies.
        option: the selected option, if any.
        value: the value if `has_value`; for a default the schema's.
        has_value: the value is known without computing anything.
        aggregate: the aggregate that selected it.
    """

    source: ValueSource
    option: str | None = None
    value: Any = None
    has_value: bool = False
    aggregate: Aggregate | None = None


class Chooser:
    """Finds the choice for each item of a schema, on demand."""

    def __init__(
        self, schema: Schema, overrides: Mapping[str, Any], assigned: Mapping[str, Any]
    ) -> None:
        self._items = schema.by_key
        self._overrides = overrides
        self._assigned = assigned
        self._chosen: dict[str, Choice] = {}
        self._by_target: dict[str, list[Aggregate]] = {}
        for aggregate in reversed(schema.aggregates):  # the nearest class is last
            for target, _ in aggregate.choices:
                self._by_target.setdefault(target, []).append(aggregate)

    def choose(self, key: str) -> Choice:
        """Return the choice for an item.

        Raises:
            ConfigError: If aggregates choose for each other in a cycle.
        """
        choice = self._chosen.get(key)
        if choice is None:
            choice = self._chosen[key] = self._decide(self._items[key], ())
        return choice

    def _decide(self, item: SchemaItem, pending: tuple[str, ...]) -> Choice:
        key = item.key
        if key in self._overrides:
            return self._given(item, self._overrides[key], "override")
        if key in self._assigned:
            return self._given(item, self._assigned[key], "assigned")
        if item.has_default:
            return self._given(item, item.default, "default")
        if key in self._by_target:
            choice = self._from_aggregates(item, pending)
            if choice is not None:
                return choice
        if item.options:
            return self._given(item, item.options[0], "option")
        return Choice("missing" if item.required else "built")

    def _given(
        self, item: SchemaItem, value: Any, source: ValueSource, aggregate: Aggregate | None = None
    ) -> Choice:
        if isinstance(value, str) and value in item.options:
            # the name of an aggregate without a function is the item's value itself
            is_function = value in item.functions
            return Choice(source, value, None if is_function else value, not is_function, aggregate)
        return Choice(source, None, value, True, aggregate)

    def _from_aggregates(self, item: SchemaItem, pending: tuple[str, ...]) -> Choice | None:
        if item.key in pending:
            chain = " -> ".join([*pending[pending.index(item.key) :], item.key])
            raise ConfigError(
                [Violation(item.key, f"aggregates choose for each other in a cycle: {chain}")]
            )
        pending = (*pending, item.key)
        for aggregate in self._by_target[item.key]:
            chooser = self._chosen.get(aggregate.key)
            if chooser is None:
                chooser = self._decide(self._items[aggregate.key], pending)
            if chooser.option == aggregate.option:
                value = dict(aggregate.choices)[item.key]
                return self._given(item, value, "aggregate", aggregate)
        return None
