"""Constraints of an item as plain data: read from annotations, checked, reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from lab_core.configs.schema.plain import PlainValue, is_plain, to_plain
from lab_core.configs.schema.suggest import did_you_mean, shown

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", lambda value, bound: value >= bound),
    "gt": ("greater than", lambda value, bound: value > bound),
    "le": ("at most", lambda value, bound: value <= bound),
    "lt": ("less than", lambda value, bound: value < bound),
    "multiple_of": ("a multiple of", lambda value, bound: value % bound == 0),
}
LENGTHS = ("min_length", "max_length")
_NAMES = (*_BOUNDS, *LENGTHS)


def read_metadata(metadata: Iterable[object]) -> dict[str, PlainValue]:
    """Return the constraints in `Annotated` metadata that come from annotated_types; ignore others."""
    found: dict[str, PlainValue] = {}
    for mark in metadata:
        # Interval and Len are groups of other marks
        if getattr(mark, "__is_annotated_types_grouped_metadata__", False):
            found.update(read_metadata(cast(Iterable[object], mark)))
            continue
        if type(mark).__module__.partition(".")[0] != "annotated_types":
            continue
        for name in _NAMES:
            bound = getattr(mark, name, None)
            if bound is not None and is_plain(bound):
                found[name] = to_plain(bound)
    return found


def constraint_problem(constraints: Mapping[str, PlainValue], value: object) -> str | None:
    """Return the violated constraint as text ("must be at least 1, got 0"), or None.

    Bounds and choices of a list are those of its elements.
    """
    if not constraints or (value is None and None not in _choices(constraints)):
        return None
    if isinstance(value, list | tuple):
        return _list_problem(constraints, value)
    for name, bound in constraints.items():
        if name == "choices":
            wrong = _not_chosen(_choices(constraints), value)
            if wrong:
                return wrong
        elif name in _BOUNDS and isinstance(value, int | float) and not isinstance(value, bool):
            words, holds = _BOUNDS[name]
            if not holds(value, bound):
                return f"must be {words} {bound}, got {shown(value)}"
    return _length_problem(constraints, value) if isinstance(value, str) else None


def _list_problem(constraints: Mapping[str, PlainValue], values: Sequence[object]) -> str | None:
    of_each = {name: bound for name, bound in constraints.items() if name not in LENGTHS}
    problems = (constraint_problem(of_each, value) for value in values)
    return next(filter(None, problems), None) or _length_problem(constraints, values)


def _length_problem(constraints: Mapping[str, PlainValue], value: Sequence[object]) -> str | None:
    for name in LENGTHS:
        if name in constraints and (wrong := _wrong_length(name, constraints[name], len(value))):
            return f"{wrong}: {shown(value)}"
    return None


def _choices(constraints: Mapping[str, PlainValue]) -> list[Any]:
    choices = constraints.get("choices", [])
    return choices if isinstance(choices, list) else []


def _not_chosen(choices: list[Any], value: object) -> str | None:
    # 1 == True == 1.0, but as config values they differ
    of_its_type = [choice for choice in choices if type(choice) is type(value)]
    if not of_its_type or value in of_its_type:
        return None  # what has no choice of its type is of another alternative
    names = [c for c in choices if isinstance(c, str)]
    hint = did_you_mean(value, names) if isinstance(value, str) and names else ""
    listed = ", ".join(repr(c) for c in choices)
    return f"must be one of {listed}, got {shown(value)}{hint if 'mean' in hint else ''}"


def _wrong_length(name: str, bound: PlainValue, length: int) -> str | None:
    assert isinstance(bound, int)
    if name == "min_length" and length < bound:
        return f"must have a length of at least {bound}, got {length}"
    if name == "max_length" and length > bound:
        return f"must have a length of at most {bound}, got {length}"
    return None
