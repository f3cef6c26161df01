"""Metrics of one run, read from its sqlite.db."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab_core.errors import LabError


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of a run over its steps.

    Attributes:
        name: the metric's name.
        steps: strictly ascending.
        values: one per step; NaN and infinities are kept.
        times: when each value was added, in seconds since 1970.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    times: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float:
        """The value at the last step; NaN if there is none."""
        return self.values[-1] if self.values else math.nan


def metric_names(path: Path) -> tuple[str, ...]:
    """Return the names of a run's metrics; empty if nothing is written yet."""
    with _reading(path) as db:
        if db is None:
            return ()
        # a skip scan: one lookup per metric, however many points it has
        rows = db.execute(
            "WITH RECURSIVE names(name) AS ("
            " SELECT MIN(indicator) FROM scalars UNION ALL"
            " SELECT (SELECT MIN(indicator) FROM scalars WHERE indicator > name) FROM names"
            " WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        )
        return tuple(name for (name,) in rows)


def read_series(path: Path, name: str) -> Series:
    """Return a metric of a run; empty if there is none of this name."""
    with _reading(path) as db:
        rows = (
            []
            if db is None
            else db.execute(
                "SELECT step, value, time FROM scalars WHERE indicator = ? ORDER BY step", (name,)
            ).fetchall()
        )
    return Series(
        name,
        tuple(step for step, _, _ in rows),
        tuple(math.nan if value is None else value for _, value, _ in rows),  # SQLite has no NaN
        tuple(time for _, _, time in rows),
    )


def last_values(path: Path) -> dict[str, float]:
    """Return every metric's value at its last step."""
    values = {}
    names = metric_names(path)
    with _reading(path) as db:
        for name in names if db is not None else ():
            assert db is not None
            (value,) = db.execute(
                "SELECT value FROM scalars WHERE indicator = ? ORDER BY step DESC LIMIT 1", (name,)
            ).fetchone()
            values[name] = math.nan if value is None else float(value)
    return values


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a run's metrics read-only; yields None if there are none."""
    if not path.is_file():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            is_there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'scalars'").fetchone()
            yield db if is_there else None
    except sqlite3.DatabaseError as error:
        raise LabError(f"cannot read the metrics in {path}: {error}") from error
