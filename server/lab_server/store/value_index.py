"""Configs and metrics by name, in tables of their own: what lists ask of all runs.

The JSON in a run's row has all of them, and is what counts. Here is a copy, in which one name of every run
is read without the rows:

- of configs, which never change, since the run was created;
- of metrics while the run has no process. Those of a run that trains change with each commit, and are read
  from its row.

A value that does not fit, which is a long text or a whole number beyond those of a double, is NULL here,
and a long name is missing: these are read from the rows, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from lab_core.configs import PlainValue
from lab_server.model.run import Run, RunState
from lab_server.store.schema import run_configs, run_metrics, runs

MAX_CHARS: Final = 200
"""So long may names and texts be here."""

LIVE_STATES: Final = frozenset(state.value for state in RunState if state.has_process)
"""Of runs whose metrics here are out of date."""

_LARGEST_INT: Final = 2**53


def is_indexed(name: str) -> bool:
    """Return whether the configs and metrics of a name are here."""
    return _fits(name)


def add(connection: Connection, run: Run) -> None:
    """Add what is known of a new run."""
    if found := config_rows(run.id, run.configs):
        connection.execute(run_configs.insert(), found)
    if not run.state.has_process:
        _add_metrics(connection, run)


def update(connection: Connection, run: Run, row: Mapping[str, Any]) -> None:
    """Renew the metrics of a run without a process, before its row is written.

    Args:
        connection: in the transaction that writes the row.
        run: as it is going to be.
        row: its columns.
    """
    if run.state.has_process:
        return
    columns = (runs.c.state, runs.c.metrics, runs.c.extremes)
    before = connection.execute(select(*columns).where(runs.c.id == run.id)).first()
    now = row["metrics"], row["extremes"]
    if before and (before.state in LIVE_STATES or (before.metrics, before.extremes) != now):
        connection.execute(run_metrics.delete().where(run_metrics.c.run_id == run.id))
        _add_metrics(connection, run)


def drop(connection: Connection, run_id: str) -> None:
    """Remove all of a run."""
    for table in (run_configs, run_metrics):
        connection.execute(table.delete().where(table.c.run_id == run_id))


def config_rows(run_id: str, configs: Mapping[str, PlainValue]) -> list[dict[str, Any]]:
    """Return the rows of a run's configs."""
    return [
        {
            "name": name,
            "run_id": run_id,
            "type": _type_of(value),
            "number": _number_of(value),
            "text": value if isinstance(value, str) and _fits(value) else None,
        }
        for name, value in configs.items()
        if is_indexed(name)
    ]


def metric_rows(
    run_id: str, metrics: Mapping[str, float], extremes: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics."""
    found = []
    for name in filter(is_indexed, {**metrics, **extremes}):
        last = metrics.get(name)
        is_nan = last is not None and last != last
        least, largest = extremes.get(name, (None, None))
        found.append(
            {
                "name": name,
                "run_id": run_id,
                "last": None if is_nan else last,
                "is_nan": is_nan,
                "least": least,
                "largest": largest,
            }
        )
    return found


def _add_metrics(connection: Connection, run: Run) -> None:
    if found := metric_rows(run.id, run.metrics, run.extremes):
        connection.execute(run_metrics.insert(), found)


def _type_of(value: PlainValue) -> str:
    """Return what `json_values.type_in` finds in the JSON of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case int() | float() if value == value:
            return "number"
    return "object"  # a NaN is written as one


def _number_of(value: PlainValue) -> float | None:
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, int) and abs(value) <= _LARGEST_INT:
        return float(value)
    return None


def _fits(text: str) -> bool:
    # a name that is no Unicode, which JSON may hold and a column may not, nobody can ask for
    return len(text) <= MAX_CHARS and not any("\ud800" <= c <= "\udfff" for c in text)
