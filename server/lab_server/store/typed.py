"""Configs and metrics as SQL: what a value is as a number, as a text, and of which type.

A value comes out of the index of values that a list has joined, or out of the JSON in the run's row. Each
class builds what it is asked for, since clauses cost time, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy import ColumnElement, case, false, func, select

from lab_rpc.run_names import Name
from lab_server.store.portable.json_values import number_in, text_in, type_in
from lab_server.store.schema import runs
from lab_server.store.value_index import LIVE_STATES

NAN: Final = "object"  # as `rows.strict_json` writes it
_PARTS: Final = {"min": 0, "max": 1}


class Typed(Protocol):
    """A value of a run, which may be of any type, or missing."""

    @property
    def type(self) -> ColumnElement[str]:
        """What `json_values.type_in` says, NULL where there is none."""

    @property
    def number(self) -> ColumnElement[float]:
        """The number, NULL for all else."""

    @property
    def text(self) -> ColumnElement[str]:
        """The string, NULL for all else."""

    @property
    def order(self) -> ColumnElement[float]:
        """The number, 1 for true and 0 for false, NULL for all else."""


@dataclass(frozen=True, slots=True)
class ConfigInRow:
    """A config in the JSON of a row of `runs`."""

    row: sa.FromClause
    key: str

    @property
    def type(self) -> ColumnElement[str]:
        """See Typed."""
        return type_in(self.row.c.configs, self.key)

    @property
    def number(self) -> ColumnElement[float]:
        """See Typed."""
        return case((self.type == "number", self.order))

    @property
    def text(self) -> ColumnElement[str]:
        """See Typed."""
        return text_in(self.row.c.configs, self.key)

    @property
    def order(self) -> ColumnElement[float]:
        """See Typed."""
        return number_in(self.row.c.configs, self.key)


@dataclass(frozen=True, slots=True)
class MetricInRow:
    """A metric in the JSON of a row of `runs`; a number or a NaN."""

    row: sa.FromClause
    name: Name

    @property
    def type(self) -> ColumnElement[str]:
        """See Typed."""
        kind = type_in(*self._place)
        return case((kind == "null", NAN), else_=kind)

    @property
    def number(self) -> ColumnElement[float]:
        """See Typed."""
        return number_in(*self._place)

    @property
    def text(self) -> ColumnElement[str]:
        """See Typed."""
        return _NO_TEXT

    @property
    def order(self) -> ColumnElement[float]:
        """See Typed."""
        return self.number

    @property
    def _place(self) -> tuple[ColumnElement[Any], str, int | None]:
        part = self.name.part
        if part == "last":
            return self.row.c.metrics, self.name.key, None
        return self.row.c.extremes, self.name.key, _PARTS[part]


@dataclass(frozen=True, slots=True)
class IndexedConfig:
    """A config out of joined rows of `run_configs`."""

    values: sa.FromClause
    key: str

    @property
    def type(self) -> ColumnElement[str]:
        """See Typed."""
        return self.values.c.type

    @property
    def number(self) -> ColumnElement[float]:
        """See Typed."""
        return case(
            (self.type == "number", func.coalesce(self.values.c.number, self._in_row_order))
        )

    @property
    def text(self) -> ColumnElement[str]:
        """See Typed."""
        in_row = _in_row(lambda row: ConfigInRow(row, self.key).text)
        return case((self.type == "string", func.coalesce(self.values.c.text, in_row)))

    @property
    def order(self) -> ColumnElement[float]:
        """See Typed."""
        return case((self.type == "number", self.number), else_=self.values.c.number)

    @property
    def _in_row_order(self) -> ColumnElement[float]:
        return _in_row(lambda row: ConfigInRow(row, self.key).order)


@dataclass(frozen=True, slots=True)
class IndexedMetric:
    """A metric out of joined rows of `run_metrics`; of runs with a process out of their own rows."""

    values: sa.FromClause
    name: Name

    @property
    def type(self) -> ColumnElement[str]:
        """See Typed."""
        is_nan = self.values.c.is_nan if self.name.part == "last" else false()
        kind = case((self._number.is_not(None), "number"), (is_nan, NAN))
        return case((_IS_LIVE, _in_row(lambda row: MetricInRow(row, self.name).type)), else_=kind)

    @property
    def number(self) -> ColumnElement[float]:
        """See Typed."""
        in_row = _in_row(lambda row: MetricInRow(row, self.name).number)
        return case((_IS_LIVE, in_row), else_=self._number)

    @property
    def text(self) -> ColumnElement[str]:
        """See Typed."""
        return _NO_TEXT

    @property
    def order(self) -> ColumnElement[float]:
        """See Typed."""
        return self.number

    @property
    def _number(self) -> ColumnElement[float]:
        columns = self.values.c
        return {"last": columns.last, "min": columns.least, "max": columns.largest}[self.name.part]


@dataclass(frozen=True, slots=True)
class ConfigOrMetric:
    """A config, or where a run has none of that name the metric."""

    config: Typed
    metric: Typed

    @property
    def type(self) -> ColumnElement[str]:
        """See Typed."""
        return func.coalesce(self.config.type, self.metric.type)

    @property
    def number(self) -> ColumnElement[float]:
        """See Typed."""
        return case((self._is_metric, self.metric.number), else_=self.config.number)

    @property
    def text(self) -> ColumnElement[str]:
        """See Typed."""
        return self.config.text

    @property
    def order(self) -> ColumnElement[float]:
        """See Typed."""
        return case((self._is_metric, self.metric.order), else_=self.config.order)

    @property
    def _is_metric(self) -> ColumnElement[bool]:
        return self.config.type.is_(None)


_IS_LIVE: Final = runs.c.state.in_(LIVE_STATES)
_NO_TEXT: Final = sa.cast(sa.null(), sa.Text)


def _in_row(value_of: Callable[[sa.FromClause], ColumnElement[Any]]) -> ColumnElement[Any]:
    """Return a value in the JSON of the run's own row, which is read only where this is wanted."""
    row = runs.alias("whole")
    of_run = select(value_of(row)).where(row.c.id == runs.c.id)
    return of_run.correlate(runs).scalar_subquery()
