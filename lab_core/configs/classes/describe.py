"""Describe a merged config class as its schema."""

from __future__ import annotations

import enum
import inspect
from typing import Any

from lab_core.configs.classes.annotations import MISSING, is_path_class
from lab_core.configs.classes.declarations import Option
from lab_core.configs.classes.marker import ConfigsMarker
from lab_core.configs.classes.merge import Merge
from lab_core.configs.classes.recipe import ItemRecipe
from lab_core.configs.schema.plain import (
    Misfit,
    PlainValue,
    accepts_none,
    fit,
    is_plain,
    is_settable,
    parse_type,
    to_plain,
)
from lab_core.configs.schema.schema import Aggregate, Group, Schema, SchemaItem
from lab_core.configs.schema.suggest import shown
from lab_core.errors import ConfigError, Violation


def describe(merge: Merge) -> Schema:
    """Return the schema of a merged class, without docs: reading them needs the source code."""
    targets, default_order = _run_targets(merge.cls, merge.sources)
    aggregates: dict[str, list[str]] = {}
    for key, option in merge.aggregates:
        aggregates.setdefault(key, []).append(option)
    return Schema(
        name=merge.cls.__name__,
        items=tuple(
            _schema_item(merge, key, s, aggregates.get(key, [])) for key, s in merge.sources.items()
        ),
        run_targets=targets,
        default_run_order=default_order,
        groups=_groups(merge),
        aggregates=tuple(
            Aggregate(
                key,
                option,
                tuple((k, _chosen(merge.sources[k], v)) for k, v in choices),
            )
            for (key, option), choices in merge.aggregates.items()
        ),
    )


def _schema_item(merge: Merge, key: str, source: ItemRecipe, aggregates: list[str]) -> SchemaItem:
    names = [*source.options, *aggregates]
    default = _plain_default(source, names)
    if default is None and _is_too_large(source):
        sentence = f"{key} must fit in 64 bits, but the class sets it to {shown(source.raw)}"
        raise ConfigError([Violation(key, sentence)])
    if isinstance(default, str) and default in names:
        names.remove(default)
        names.insert(0, default)
    is_given = source.raw is not MISSING or source.nested is not None
    type_text = source.info.text
    if source.raw is None:
        type_text = _with_none(type_text)  # `x: int = None` allows None
    mark = merge.hyperparams.get(key)
    return SchemaItem(
        key=key,
        type=type_text,
        default=default,
        has_default=source.raw is not MISSING,
        options=tuple(dict.fromkeys(names)),
        functions=tuple(source.options),
        constraints=source.info.constraints,
        is_hyperparam=mark is True,
        never_hyperparam=mark is False,
        required=not is_given and not names and source.build is None,
        is_nested=source.nested is not None,
    )


def _groups(merge: Merge) -> tuple[Group, ...]:
    groups: dict[tuple[str, Option], list[str]] = {}
    for key, source in merge.sources.items():
        for bound in source.options.values():
            if len(bound.option.targets) > 1:
                groups.setdefault((bound.prefix, bound.option), []).append(key)
    return tuple(
        Group(option.name, tuple(keys)) for (_, option), keys in groups.items() if len(keys) > 1
    )


def _plain_default(source: ItemRecipe, names: list[str]) -> PlainValue:
    """Return the class's value as plain data; None also if it has no plain form."""
    raw = source.raw
    if raw is MISSING:
        return None
    if isinstance(raw, str) and raw in names:
        return raw
    raw = _named(raw)
    if not is_plain(raw):
        return None
    try:
        return fit(parse_type(source.info.text), raw)
    except Misfit:
        return to_plain(raw)  # reported when a config message is planned


def _chosen(source: ItemRecipe, value: Any) -> PlainValue:
    """Return what an aggregate chooses as plain data; None if it has no plain form."""
    if not is_plain(value):
        return None
    try:
        return fit(parse_type(source.info.text), value)
    except Misfit:
        return to_plain(value)  # an option's name, or reported when a config message is planned


def _named(raw: Any) -> Any:
    """Return a value with enums as their names and paths as texts, also in lists and tuples."""
    if isinstance(raw, enum.Enum):
        return raw.name
    if is_path_class(type(raw)):
        return str(raw)
    return [_named(value) for value in raw] if type(raw) in (list, tuple) else raw


def _is_too_large(source: ItemRecipe) -> bool:
    is_int = isinstance(source.raw, int) and not is_plain(source.raw)
    return is_int and is_settable(source.info.text)


def _with_none(type_text: str) -> str:
    return type_text if accepts_none(type_text) else f"{type_text} | None"


def _run_targets(
    cls: type[ConfigsMarker], sources: dict[str, ItemRecipe]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    targets = []
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if name.startswith("_") or name in sources or name in targets:
                continue
            if inspect.isfunction(value) and len(inspect.signature(value).parameters) == 1:
                targets.append(name)
    order = ["set_seed"] if "set_seed" in sources else []
    order += ["main"] if "main" in sources else ["run"] if "run" in targets else []
    return tuple(targets), tuple(order)
