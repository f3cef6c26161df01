"""The schema: a config class as plain data, usable without importing the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from lab_core.configs.schema.plain import PlainValue, accepts_none


class SchemaItem(NamedTuple):  # classes have hundreds: a frozen dataclass takes four times as long
    """One item of a config class.

    Attributes:
        key: its name; dotted in a nested config class.
        type: a short text: `int`, `float | None`, `list[str]`, `any`; `object` if only code can set it.
        default: the class's value if that is plain, or the option that it names.
        has_default: the class sets a value, which need not be plain.
        options: the names that can be selected, the default first.
        functions: the options that compute it; the other options are aggregates.
        doc: the comment or docstring beside the declaration.
        constraints: any of ge, gt, le, lt, multiple_of, min_length, max_length, choices.
        is_hyperparam: marked as a hyper-parameter.
        never_hyperparam: not a hyper-parameter, even if it is overridden.
        required: it has no default and nothing computes it, so a run that needs it must set it.
        is_nested: a nested config class, whose items have keys of their own.
    """

    key: str
    type: str = "object"
    default: PlainValue = None
    has_default: bool = False
    options: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    doc: str = ""
    constraints: Mapping[str, PlainValue] = {}
    is_hyperparam: bool = False
    never_hyperparam: bool = False
    required: bool = False
    is_nested: bool = False

    @property
    def has_plain_default(self) -> bool:
        """Whether the class's value can be shown as plain data."""
        return self.has_default and (self.default is not None or accepts_none(self.type))


class Group(NamedTuple):
    """The items that one option computes together."""

    option: str
    keys: tuple[str, ...]


class Aggregate(NamedTuple):
    """An option of one item that selects values or options of other items."""

    key: str
    option: str
    choices: tuple[tuple[str, PlainValue], ...]


@dataclass(frozen=True)
class Schema:
    """A config class as plain data.

    Attributes:
        name: the class's name.
        doc: its docstring.
        items: in the order of declaration, those of the class before those of its bases.
        run_targets: its methods that take only `self`.
        default_run_order: the run order if the message has none.
        groups: items computed together; none of them can be set alone.
        aggregates: options that select for several items.
    """

    name: str = ""
    doc: str = ""
    items: tuple[SchemaItem, ...] = ()
    run_targets: tuple[str, ...] = ()
    default_run_order: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()

    @cached_property
    def by_key(self) -> dict[str, SchemaItem]:
        """The items by key."""
        return {item.key: item for item in self.items}

    def keys(self) -> list[str]:
        """Return the keys of all items, in order."""
        return list(self.by_key)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, ready for `json.dumps`."""
        return {
            "name": self.name,
            "doc": self.doc,
            "items": [_item_to_json(item) for item in self.items],
            "run_targets": list(self.run_targets),
            "default_run_order": list(self.default_run_order),
            "groups": [{"option": g.option, "keys": list(g.keys)} for g in self.groups],
            "aggregates": [
                {"key": a.key, "option": a.option, "choices": [list(c) for c in a.choices]}
                for a in self.aggregates
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """Return the schema from the data of `to_json`."""
        return cls(
            name=data["name"],
            doc=data["doc"],
            items=tuple(
                SchemaItem(**item)._replace(
                    options=tuple(item.get("options", ())),
                    functions=tuple(item.get("functions", ())),
                )
                for item in data["items"]
            ),
            run_targets=tuple(data["run_targets"]),
            default_run_order=tuple(data["default_run_order"]),
            groups=tuple(Group(g["option"], tuple(g["keys"])) for g in data["groups"]),
            aggregates=tuple(
                Aggregate(a["key"], a["option"], tuple((k, v) for k, v in a["choices"]))
                for a in data["aggregates"]
            ),
        )

    def with_docs(self, doc: str, docs: Mapping[str, str]) -> Schema:
        """Return a copy of the schema with docs."""
        items = tuple(i._replace(doc=docs[i.key]) if i.key in docs else i for i in self.items)
        return replace(self, doc=doc, items=items)


_SPECIAL = ("key", "options", "functions", "constraints")
_PLAIN_FIELDS = {
    name: default for name, default in SchemaItem._field_defaults.items() if name not in _SPECIAL
}


def _item_to_json(item: SchemaItem) -> dict[str, Any]:
    """Return the item without fields that have their default value."""
    data: dict[str, Any] = {"key": item.key}
    for name, default in _PLAIN_FIELDS.items():
        value = getattr(item, name)
        if value != default or type(value) is not type(default):
            data[name] = value
    if item.options:
        data["options"] = list(item.options)
    if item.functions:
        data["functions"] = list(item.functions)
    if item.constraints:
        data["constraints"] = dict(item.constraints)
    return data
