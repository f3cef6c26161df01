"""Validate the values given to a config class, and report all violations at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lab_core.configs.schema.choices import Chooser
from lab_core.configs.schema.constraints import constraint_problem
from lab_core.configs.schema.plain import (
    Misfit,
    TooLarge,
    accepts_none,
    describe,
    fit,
    is_settable,
    parse_type,
)
from lab_core.configs.schema.schema import Schema, SchemaItem
from lab_core.configs.schema.suggest import did_you_mean, shown
from lab_core.errors import ConfigError, Violation

AcceptObject = Callable[[str, Any], bool]
"""Returns whether an item accepts a value that is not plain."""


def _no_objects(_key: str, _value: Any) -> bool:
    return False


def checked_message(overrides: object) -> Mapping[str, Any]:
    """Return the values of a config message; none of None.

    Raises:
        ConfigError: If it is no mapping.
    """
    if overrides is None or isinstance(overrides, Mapping):
        return overrides or {}
    sentence = f"overrides must be a dict, such as {{'epochs': 2}}, got {shown(overrides)}"
    raise ConfigError([Violation("", sentence)])


def clean_values(
    schema: Schema,
    given: Mapping[str, Any],
    *,
    coerce_strings: bool = False,
    accept_object: AcceptObject = _no_objects,
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the valid values, converted to their items' types, and the violations of the others."""
    clean: dict[str, Any] = {}
    problems: list[Violation] = []
    for key, value in given.items():
        item = schema.by_key.get(key)
        if item is None:
            hint = did_you_mean(str(key), schema.keys())
            problems.append(Violation(str(key), f"unknown config {shown(key)}{hint}"))
            continue
        try:
            clean[key] = _clean(item, value, coerce_strings, accept_object)
        except _Refused as refused:
            problems.append(Violation(key, str(refused)))
    return clean, problems


class _Refused(Exception):
    """A value is invalid; carries the message."""


def _clean(item: SchemaItem, value: Any, coerce_strings: bool, accept: AcceptObject) -> Any:
    if isinstance(value, str) and item.options:
        return _clean_string(item, value, coerce_strings)
    if not is_settable(item.type):
        if accept(item.key, value):
            return value
        raise _Refused(_not_settable(item, value))
    try:
        fitted = fit(parse_type(item.type), value, coerce_strings)
    except TooLarge:
        raise _Refused(f"{item.key} must fit in 64 bits, got {shown(value)}") from None
    except Misfit:
        if accept(item.key, value):
            return value
        expected = describe(parse_type(item.type))
        hint = f" (or one of its options: {', '.join(item.options)})" if item.options else ""
        raise _Refused(f"{item.key} must be {expected}{hint}, got {shown(value)}") from None
    problem = constraint_problem(item.constraints, fitted)
    if problem:
        raise _Refused(f"{item.key} {problem}")
    return fitted


def _clean_string(item: SchemaItem, value: str, coerce_strings: bool) -> Any:
    """Accept one of the item's options; with `coerce_strings` also a plain value."""
    if value in item.options:
        return value
    if coerce_strings and is_settable(item.type):
        try:
            fitted = fit(parse_type(item.type), value, coerce_strings=True)
        except Misfit:  # TooLarge included
            fitted = value
        if not isinstance(fitted, str):
            problem = constraint_problem(item.constraints, fitted)
            if problem:
                raise _Refused(f"{item.key} {problem}")
            return fitted
    hint = did_you_mean(value, item.options)
    raise _Refused(f"unknown option {shown(value)} for {item.key!r}{hint}")


def _not_settable(item: SchemaItem, value: Any) -> str:
    if item.options:
        choices = ", ".join(repr(o) for o in item.options)
        return f"{item.key} must be one of its options {choices}, got {shown(value)}"
    if item.is_nested:
        return f"{item.key} is a group of configs; set one of them, like {item.key + '.name'!r}"
    return f"{item.key} is set by the experiment's code only, got {shown(value)}"


def default_problems(schema: Schema, replaced: Iterable[str]) -> list[Violation]:
    """Return the violations of the class's own values, without those that are replaced."""
    replaced = set(replaced)
    problems = []
    for item in schema.items:
        default = item.default
        if default is None or item.key in replaced:
            continue
        if isinstance(default, str) and default in item.options:
            continue
        if isinstance(default, str) and item.options:
            hint = did_you_mean(default, item.options)
            sentence = f"the class sets {item.key!r} to the unknown option {shown(default)}{hint}"
            problems.append(Violation(item.key, sentence))
        elif item.type != "object":
            problem = _default_problem(item)
            if problem:
                problems.append(Violation(item.key, problem))
    return problems


def _default_problem(item: SchemaItem) -> str | None:
    try:
        fit(parse_type(item.type), item.default)
    except Misfit:
        hint = ", and it has no options" if isinstance(item.default, str) else ""
        expected = describe(parse_type(item.type))
        return (
            f"{item.key} must be {expected}, but the class sets it to {shown(item.default)}{hint}"
        )
    problem = constraint_problem(item.constraints, item.default)
    return f"{item.key} {problem}, set by the class" if problem else None


def partially_overridden_groups(
    schema: Schema, chooser: Chooser, given: Mapping[str, Any]
) -> list[Violation]:
    """Return a violation for each item that is overridden while others of its group are computed."""
    problems = []
    for group in schema.groups:
        computed, replaced = [], []
        for key in group.keys:
            choice = chooser.choose(key)
            if choice.option == group.option and not choice.has_value:
                computed.append(key)
            elif key in given:
                replaced.append(key)
        if computed:
            problems += [
                Violation(
                    key,
                    f"{key!r} is set, but {group.option!r} still computes it together with "
                    f"{', '.join(repr(k) for k in computed)}; set all of them, or none",
                )
                for key in replaced
            ]
    return problems


def clean_run_order(
    schema: Schema, run_order: Sequence[str | Sequence[str]] | None
) -> tuple[tuple[str, ...], list[Violation]]:
    """Return the flattened run order and its violations."""
    if run_order is None:
        return schema.default_run_order, []
    names, wrong = _flat(run_order)
    if wrong:
        sentence = f"the run order must be a list of names, got {wrong}"
        return (), [Violation("run_order", sentence)]
    known = [*schema.keys(), *schema.run_targets]
    problems = [
        Violation(
            "run_order", f"unknown name {shown(name)} in the run order{did_you_mean(name, known)}"
        )
        for name in names
        if name not in known
    ]
    return tuple(names), problems


def _flat(run_order: object) -> tuple[list[str], str]:
    """Return the names in a run order, and what is in it instead of one."""
    if isinstance(run_order, str):
        return [run_order], ""
    if not isinstance(run_order, Iterable):
        return [], shown(run_order)
    names: list[str] = []
    for entry in run_order:
        inner = [entry] if isinstance(entry, str) or not isinstance(entry, Iterable) else entry
        for name in inner:
            if not isinstance(name, str):
                return [], f"{shown(name)} in it"
            names.append(name)
    return names, ""


def missing_in_run_order(
    schema: Schema, chooser: Chooser, run_order: Sequence[str]
) -> list[Violation]:
    """Return a violation for each item in the run order that has no value."""
    return [
        Violation(name, f"{name!r} is in the run order but has no value; set it")
        for name in run_order
        if name in schema.by_key and chooser.choose(name).source == "missing"
    ]


def aggregate_problems(schema: Schema, chooser: Chooser) -> list[Violation]:
    """Return the violations of aggregates: unknown options, and cycles."""
    problems: list[Violation] = []
    for item in schema.items if schema.aggregates else ():
        try:
            choice = chooser.choose(item.key)
        except ConfigError as error:
            problems += error.violations  # once: each item of the cycle would report it again
            break
        is_value = choice.source == "aggregate" and choice.option is None
        is_told = isinstance(choice.value, str) or is_settable(item.type)  # else it is an object
        if is_value and is_told and (choice.value is not None or accepts_none(item.type)):
            _, wrong = clean_values(schema, {item.key: choice.value})
            problems += wrong
    return problems
