"""The sqlite writer: lab's tables, NaN, several threads, readers beside it."""

from __future__ import annotations

import math
import sqlite3
import threading
from pathlib import Path

from lab_core.tracker import Kind, Tracker
from lab_core.writers import Batch, IndexedPoint, ScalarColumn, SqliteWriter, TextPoint


def scalars(name: str, steps: range, value: float = 0.5) -> Batch:
    times = [1e9 + s for s in steps]
    return Batch((ScalarColumn(name, list(steps), [value] * len(steps), times),))


def read(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_points_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / "run" / "sqlite.db")
    writer.write(scalars("loss", range(100)))
    path = tmp_path / "run" / "sqlite.db"
    assert read(path, "SELECT count(*), min(step), max(step), min(time) FROM scalars") == [
        (100, 0, 99, 1e9)
    ]
    assert read(path, "PRAGMA journal_mode") == [("wal",)]
    writer.write(scalars("loss", range(100, 133)))
    assert read(path, "SELECT count(*) FROM scalars") == [(133,)]
    writer.close()


def test_after_close_all_is_in_the_one_file(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / "sqlite.db")
    writer.write(scalars("loss", range(3)))
    writer.close()
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["sqlite.db"]


def test_tables_have_labs_names_and_are_looked_up_by_index(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    writer.write(scalars("loss", range(3)))
    columns = [row[1] for row in read(path, "PRAGMA table_info(scalars)")]
    assert columns == ["indicator", "step", "value", "time"]
    columns = [row[1] for row in read(path, "PRAGMA table_info(indexed_scalars)")]
    assert columns == ["indicator", "step", "idx", "value"]
    plan = read(path, "EXPLAIN QUERY PLAN SELECT * FROM scalars WHERE indicator = 'x' AND step > 5")
    assert "SEARCH scalars USING PRIMARY KEY (indicator=? AND step>?)" in str(plan)
    writer.close()


def test_nan_is_null_and_infinities_are_themselves(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    with Tracker([SqliteWriter(path)]) as current:
        for step, value in enumerate([math.nan, math.inf, -math.inf, 1.5]):
            current.save(step, x=value)
    assert read(path, "SELECT value FROM scalars ORDER BY step") == [
        (None,),
        (math.inf,),
        (-math.inf,),
        (1.5,),
    ]


def test_a_step_written_again_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    writer.write(scalars("loss", range(40), 1.0))
    writer.write(scalars("loss", range(30, 70), 2.0))
    writer.close()
    assert read(path, "SELECT count(*), sum(value) FROM scalars") == [(70, 30 * 1.0 + 40 * 2.0)]


def test_truncate_forgets_what_came_after_a_step(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    writer.write(scalars("loss", range(10)))
    writer.write(Batch(texts=(TextPoint("t", 3, 1.0, "a"), TextPoint("t", 9, 1.0, "b"))))
    writer.truncate(4)
    writer.close()
    assert read(path, "SELECT max(step) FROM scalars") == [(4,)]
    assert read(path, "SELECT text FROM texts") == [("a",)]


def test_it_may_be_used_from_several_threads(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for i in range(20):
                writer.write(scalars(name, range(i * 10, i * 10 + 10)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert failures == []
    assert read(path, "SELECT count(*) FROM scalars") == [(800,)]


def test_the_other_kinds_have_tables_too(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    with Tracker([SqliteWriter(path)]) as current:
        current.declare(Kind.HISTOGRAM, "w")
        current.declare(Kind.INDEXED, "each")
        current.declare(Kind.TEXT, "note")
        current.save(1, w=[1.0, 2.0, math.nan], each=[(5, 0.5), (7, math.nan)], note="hello")
    assert read(path, "SELECT idx, value FROM indexed_scalars") == [(5, 0.5), (7, None)]
    assert read(path, "SELECT num, num_nan FROM histograms") == [(3, 1)]
    assert read(path, "SELECT step, text FROM texts") == [(1, "hello")]


def test_a_transaction_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    bad = IndexedPoint("x", 1, 1.0, (1,), (object(),))  # type: ignore[arg-type]
    try:
        writer.write(Batch(scalars("loss", range(5)).columns, indexed=(bad,)))
    except sqlite3.Error:
        pass
    else:
        raise AssertionError("SQLite took an object for a number")
    writer.write(scalars("other", range(2)))
    writer.close()
    assert read(path, "SELECT DISTINCT indicator FROM scalars") == [("other",)]


def test_a_long_batch_is_few_statements_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    statements: list[str] = []
    writer.write(scalars("loss", range(1)))
    assert writer._connection is not None
    writer._connection.set_trace_callback(statements.append)
    writer.write(scalars("loss", range(1, 10_000)))
    writer.close()
    assert sum(statement.startswith("INSERT") for statement in statements) == 9
    assert read(path, "SELECT count(*), sum(step), min(time), max(time) FROM scalars") == [
        (10_000, 10_000 * 9_999 / 2, 1e9, 1e9 + 9_999)
    ]


def test_rows_are_as_many_as_sqlite_takes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    writer = SqliteWriter(path)
    writer.write(scalars("loss", range(1)))
    assert writer._connection is not None
    # as in an older SQLite
    writer._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    writer.write(scalars("loss", range(1, 2_000)))
    writer.close()
    assert read(path, "SELECT count(*) FROM scalars") == [(2_000,)]
