"""Metrics in a SQLite file, which can be read during the run.

SQLite stores NaN as NULL: a NULL value of a point is a NaN. Writing a step again replaces its values,
so that a run resumed from a checkpoint has no duplicate points.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from functools import lru_cache
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


_BLOCKS = tuple(1 << power for power in range(12, -1, -1))
"""Rows in one statement, 4096 at most. Of many rows one takes half the time of single ones; and each statement lets go of
the interpreter, which it gets back, from a training that computes in Python, up to 5 ms later."""


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
    num = sum(len(column.steps) for column in columns)
    row_by_row: list[object] = [None] * (4 * num)
    row_by_row[0::4] = [column.name for column in columns for _ in column.steps]
    row_by_row[1::4] = [step for column in columns for step in column.steps]
    row_by_row[2::4] = [value for column in columns for value in column.values]
    row_by_row[3::4] = [time for column in columns for time in column.times]
    most = db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // 4
    start = 0
    for size in _BLOCKS:
        while size <= min(most, num - start):
            db.execute(_insert(size), row_by_row[4 * start : 4 * (start + size)])
            start += size


@lru_cache
def _insert(num_rows: int) -> str:
    rows = ", ".join(["(?, ?, ?, ?)"] * num_rows)
    return f"INSERT OR REPLACE INTO scalars VALUES {rows}"  # noqa: S608  # nothing of anybody is in it
