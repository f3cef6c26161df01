"""What people ask of runs, as SQL over the columns of the table `runs` and the index of values.

What was typed by people travels as parameters, or as names that JSON's paths take as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, ColumnElement, and_, case, false, func, literal, or_

from lab_server.model.run import RunState
from lab_server.store.portable.dialects import any_element, contains_any_case
from lab_server.store.schema import run_configs, run_metrics, runs
from lab_server.store.typed import (
    NAN,
    ConfigInRow,
    ConfigOrMetric,
    IndexedConfig,
    IndexedMetric,
    MetricInRow,
    Typed,
)
from lab_server.store.value_index import is_indexed
from lab_server.where import AllOf, AnyOf, Compare, Condition, Kind, Name, Not

Bool = ColumnElement[bool]
_Test = Callable[[ColumnElement[Any], Any], Bool]

# SQLite joins at most 64 tables; what more is asked for is read from the rows
_MAX_JOINED: Final = 20
_NANOSECONDS: Final = 1e9
_STATE_ORDER: Final = {state.value: index for index, state in enumerate(RunState)}
_TYPED: Final = (Kind.CONFIG, Kind.VALUE, Kind.METRIC)
_TESTS: Final[dict[str, _Test]] = {
    "=": lambda value, operand: value == operand,
    "<": lambda value, operand: value < operand,
    "<=": lambda value, operand: value <= operand,
    ">": lambda value, operand: value > operand,
    ">=": lambda value, operand: value >= operand,
    "~": contains_any_case,
}


class Asked:
    """What one list asks of runs: clauses, and the tables that they are about.

    Args:
        now_ns: the time that ages, and durations of what still trains, are told by.
    """

    def __init__(self, now_ns: int) -> None:
        self._now = literal(now_ns, BigInteger())
        self._joined: dict[tuple[sa.Table, str], sa.FromClause] = {}

    @property
    def source(self) -> sa.FromClause:
        """The runs, with the values that the clauses made so far compare."""
        found: sa.FromClause = runs
        for (_, name), values in self._joined.items():
            of_run = and_(values.c.name == name, values.c.run_id == runs.c.id)
            found = found.outerjoin(values, of_run)
        return found

    def holds(self, condition: Condition) -> Bool:
        """Return the clause that is true for the runs for which a condition holds, and never null."""
        match condition:
            case Not(condition=inner):
                return sa.not_(self.holds(inner))
            case AllOf(conditions=several):
                return and_(*(self.holds(one) for one in several))
            case AnyOf(conditions=several):
                return or_(*(self.holds(one) for one in several))
            case Compare():
                return func.coalesce(self._compare(condition), false())

    def sort_keys(self, name: Name) -> list[ColumnElement[Any]]:
        """Return what runs are ordered by, one after the other; null where a run does not have it.

        Configs may be numbers in some runs and texts in others: the numbers come first.
        """
        if name.kind is Kind.STATE:
            return [case(_STATE_ORDER, value=runs.c.state)]
        if name.kind in _TYPED:
            found = self._typed(name)
            return [found.order] if name.kind is Kind.METRIC else [found.order, found.text]
        return [self._field(name.key)]

    def _compare(self, comparison: Compare) -> Bool:
        name, operand = comparison.name, comparison.operand
        test = _TESTS[comparison.operator]
        if name.kind is Kind.TAGS:
            if operand is None:
                return runs.c.tags == "[]"
            return any_element(runs.c.tags, lambda tag: test(tag, operand))
        if name.kind in _TYPED:
            return _compare_typed(self._typed(name), test, operand)
        value = self._field(name.key)
        if operand is None:
            return or_(value.is_(None), value == "") if name.kind is Kind.TEXT else value.is_(None)
        # the column of the priority is smaller than the numbers that it may be compared with
        is_int = isinstance(operand, int)
        return test(value, literal(operand, BigInteger()) if is_int else operand)

    # ---- values

    def _typed(self, name: Name) -> Typed:
        match name.kind:
            case Kind.CONFIG:
                return self._config(name.key)
            case Kind.METRIC:
                return self._metric(name)
        return ConfigOrMetric(self._config(name.key), self._metric(name))

    def _config(self, key: str) -> Typed:
        values = self._values(run_configs, key)
        return ConfigInRow(runs, key) if values is None else IndexedConfig(values, key)

    def _metric(self, name: Name) -> Typed:
        values = self._values(run_metrics, name.key)
        return MetricInRow(runs, name) if values is None else IndexedMetric(values, name)

    def _values(self, table: sa.Table, key: str) -> sa.FromClause | None:
        """Return what to join for the values of a name; None when they are to be read from the rows."""
        known = self._joined.get((table, key))
        if known is None and is_indexed(key) and len(self._joined) < _MAX_JOINED:
            known = self._joined[table, key] = table.alias(f"values_{len(self._joined)}")
        return known

    # ---- fields

    def _field(self, key: str) -> ColumnElement[Any]:
        match key:
            case "create_time":
                return runs.c.create_time_ns
            case "start_time" | "end_time":
                return _time(key)
            case "age":
                return (self._now - runs.c.create_time_ns) / literal(_NANOSECONDS, sa.Double())
            case "duration":
                lasted = func.coalesce(_time("end_time"), self._now) - _time("start_time")
                return lasted / literal(_NANOSECONDS, sa.Double())
        return runs.c[key]


def _compare_typed(found: Typed, test: _Test, operand: object) -> Bool:
    match operand:
        case None:
            return or_(found.type.is_(None), found.type == "null")
        case bool():
            return found.type == ("true" if operand else "false")
        case str():
            return test(found.text, operand)
    if operand != operand:
        return found.type == NAN
    return test(found.number, literal(operand))


def _time(key: str) -> ColumnElement[int]:
    return func.nullif(runs.c[f"{key}_ns"], literal(0, BigInteger()))
