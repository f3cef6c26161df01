"""What people ask of runs, as SQL over the columns of the table `runs`.

What was typed by people travels as parameters, or as names that JSON's paths take as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, ColumnElement, and_, case, false, func, literal, or_

from lab_server.model.run import RunState
from lab_server.store.portable.dialects import any_element, contains_any_case
from lab_server.store.portable.json_values import integer_in, number_in, text_in, type_in
from lab_server.store.schema import runs
from lab_server.where import AllOf, AnyOf, Compare, Condition, Kind, Name, Not

Bool = ColumnElement[bool]
_Test = Callable[[ColumnElement[Any], Any], Bool]

_PARTS: Final = {"min": 0, "max": 1}
_NANOSECONDS: Final = 1e9
_STATE_ORDER: Final = {state.value: index for index, state in enumerate(RunState)}
_NAN: Final = "object"  # as `rows.strict_json` writes it
_TYPED: Final = (Kind.CONFIG, Kind.VALUE, Kind.METRIC)
_TESTS: Final[dict[str, _Test]] = {
    "=": lambda value, operand: value == operand,
    "<": lambda value, operand: value < operand,
    "<=": lambda value, operand: value <= operand,
    ">": lambda value, operand: value > operand,
    ">=": lambda value, operand: value >= operand,
    "~": contains_any_case,
}


def holds(condition: Condition, now_ns: int) -> Bool:
    """Return the clause that is true for the runs for which a condition holds, and never null."""
    match condition:
        case Not(condition=inner):
            return sa.not_(holds(inner, now_ns))
        case AllOf(conditions=several):
            return and_(*(holds(one, now_ns) for one in several))
        case AnyOf(conditions=several):
            return or_(*(holds(one, now_ns) for one in several))
        case Compare():
            return func.coalesce(_compare(condition, now_ns), false())


def sort_keys(name: Name, now_ns: int) -> list[ColumnElement[Any]]:
    """Return what runs are ordered by, one after the other; null where a run does not have it.

    Configs may be numbers in some runs and texts in others: the numbers come first.
    """
    if name.kind is Kind.STATE:
        return [case(_STATE_ORDER, value=runs.c.state)]
    if name.kind in _TYPED:
        found = _typed(name)
        return [found.number] if name.kind is Kind.METRIC else [found.number, found.text]
    return [_field(name.key, now_ns)]


def _compare(comparison: Compare, now_ns: int) -> Bool:
    name, operand = comparison.name, comparison.operand
    test = _TESTS[comparison.operator]
    if name.kind is Kind.TAGS:
        if operand is None:
            return runs.c.tags == "[]"
        return any_element(runs.c.tags, lambda tag: test(tag, operand))
    if name.kind in _TYPED:
        return _compare_typed(_typed(name), test, operand)
    value = _field(name.key, now_ns)
    if operand is None:
        return or_(value.is_(None), value == "") if name.kind is Kind.TEXT else value.is_(None)
    # the column of the priority is smaller than the numbers that it may be compared with
    is_int = isinstance(operand, int)
    return test(value, literal(operand, BigInteger()) if is_int else operand)


@dataclass(frozen=True, slots=True)
class _Typed:
    """A value out of JSON: its type, null where there is none, and what it is as a number and as a text."""

    type: ColumnElement[str]
    number: ColumnElement[float]
    text: ColumnElement[str]


def _compare_typed(found: _Typed, test: _Test, operand: object) -> Bool:
    match operand:
        case None:
            return or_(found.type.is_(None), found.type == "null")
        case bool():
            return found.type == ("true" if operand else "false")
        case str():
            return and_(found.type == "string", test(found.text, operand))
    if operand != operand:
        return found.type == _NAN
    return and_(found.type == "number", test(found.number, literal(operand)))


def _typed(name: Name) -> _Typed:
    match name.kind:
        case Kind.CONFIG:
            return _in(runs.c.configs, name.key)
        case Kind.METRIC if name.part != "last":
            return _in(runs.c.extremes, name.key, _PARTS[name.part])
        case Kind.METRIC:
            found = _in(runs.c.metrics, name.key)
            kind = case((found.type == "null", _NAN), else_=found.type)
            return _Typed(kind, found.number, found.text)
    config, metric = _typed(Name(Kind.CONFIG, name.key)), _typed(Name(Kind.METRIC, name.key))
    is_metric = config.type.is_(None)
    return _Typed(
        case((is_metric, metric.type), else_=config.type),
        case((is_metric, metric.number), else_=config.number),
        config.text,
    )


def _in(column: ColumnElement[Any], key: str, index: int | None = None) -> _Typed:
    return _Typed(
        type_in(column, key, index), number_in(column, key, index), text_in(column, key, index)
    )


def _field(key: str, now_ns: int) -> ColumnElement[Any]:
    now = literal(now_ns, BigInteger())
    match key:
        case "create_time":
            return runs.c.create_time_ns
        case "start_time" | "end_time":
            return _time(key)
        case "age":
            return (now - runs.c.create_time_ns) / literal(_NANOSECONDS, sa.Double())
        case "duration":
            lasted = func.coalesce(_time("end_time"), now) - _time("start_time")
            return lasted / literal(_NANOSECONDS, sa.Double())
        case "device" | "notes":
            return text_in(runs.c.request, key)
        case "parent" | "search":
            return text_in(runs.c.request, "parent" if key == "parent" else "trial", 0)
        case "trial":
            return integer_in(runs.c.request, "trial", 1)
        case "reason" | "slot" | "config_hash":
            return text_in(runs.c.details, key)
        case "total_steps" | "attempt" | "checkpoint_step":
            return integer_in(runs.c.details, key)
    return runs.c[key]


def _time(key: str) -> ColumnElement[int]:
    return func.nullif(integer_in(runs.c.details, f"{key}_ns"), literal(0, BigInteger()))
