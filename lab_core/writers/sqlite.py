"""Metrics in a SQLite file, which can be read during the run.

SQLite stores NaN as NULL: a NULL value of a point is a NaN. Writing a step again replaces its values,
so that a run resumed from a checkpoint has no duplicate points.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from lab_core.writers.base import Batch, ScalarColumn

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scalars (
    indicator TEXT NOT NULL, step INTEGER NOT NULL, value REAL, time REAL NOT NULL,
    PRIMARY KEY (indicator, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed_scalars (
    indicator TEXT NOT NULL, step INTEGER NOT NULL, idx INTEGER NOT NULL, value REAL,
    PRIMARY KEY (indicator, step, idx)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS histograms (
    indicator TEXT NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
    edges TEXT NOT NULL, counts TEXT NOT NULL,
    num INTEGER NOT NULL, num_nan INTEGER NOT NULL, num_inf INTEGER NOT NULL,
    PRIMARY KEY (indicator, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS texts (
    indicator TEXT NOT NULL, step INTEGER NOT NULL, text TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (indicator, step)) WITHOUT ROWID;
"""
_TABLES = ("scalars", "indexed_scalars", "histograms", "texts")


_ROWS = 32  # rows in one statement: takes half the time of single rows; more gains nothing
_INSERT_SCALAR = "INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?)"
_INSERT_SCALARS = _INSERT_SCALAR + ", (?, ?, ?, ?)" * (_ROWS - 1)


class SqliteWriter:
    """Writes `scalars(indicator, step, value, time)`, `indexed_scalars(indicator, step, idx, value)`,
    `histograms` and `texts`; images are not written.

    May be called from any thread. `_lock` guards the connection.

    Args:
        path: the file; created, with its folder, at the first write.
    """

    name = "sqlite"

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        with self._lock, self._open() as db:
            _insert_scalars(db, batch.columns)
            for point in batch.indexed:
                db.executemany(
                    "INSERT OR REPLACE INTO indexed_scalars VALUES (?, ?, ?, ?)",
                    [
                        (point.name, point.step, i, v)
                        for i, v in zip(point.indices, point.values, strict=True)
                    ],
                )
            if batch.histograms:
                db.executemany(
                    "INSERT OR REPLACE INTO histograms VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (h.name, h.step, h.time, json.dumps(h.edges), json.dumps(h.counts), h.num, h.num_nan, h.num_inf)
                        for h in batch.histograms
                    ],
                )  # fmt: skip
            if batch.texts:
                db.executemany(
                    "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)",
                    [(t.name, t.step, t.text, t.time) for t in batch.texts],
                )

    def truncate(self, after_step: int) -> None:
        """Delete every point after a step."""
        with self._lock, self._open() as db:
            for table in _TABLES:
                db.execute(f"DELETE FROM {table} WHERE step > ?", (after_step,))  # noqa: S608

    def close(self) -> None:
        """Close the file; SQLite merges its write-ahead log into it."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            # A power loss may lose the last transactions, but does not corrupt the file.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            self._connection = connection
        return self._connection


def _insert_scalars(db: sqlite3.Connection, columns: Sequence[ScalarColumn]) -> None:
    rows = [
        row
        for c in columns
        for row in zip([c.name] * len(c.steps), c.steps, c.values, c.times, strict=True)
    ]
    num_in_blocks = len(rows) - len(rows) % _ROWS
    for start in range(0, num_in_blocks, _ROWS):
        db.execute(_INSERT_SCALARS, tuple(chain.from_iterable(rows[start : start + _ROWS])))
    db.executemany(_INSERT_SCALAR, rows[num_in_blocks:])
