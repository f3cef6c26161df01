"""Each writer's own pace: failures that pass, that stay, and writers that hang."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_core.tracker import Tracker
from lab_core.writers import Batch, MemoryWriter, ScalarColumn, SqliteWriter, lane
from lab_core.writers.lane import Lane


class Moody(MemoryWriter):
    """Raises what it is told to, and keeps the rest."""

    name = "moody"

    def __init__(self, raises: Callable[[Batch], Exception | None]) -> None:
        super().__init__()
        self.raises = raises
        self.num_tries = 0

    def write(self, batch: Batch) -> None:
        self.num_tries += 1
        error = self.raises(batch)
        if error is not None:
            raise error
        super().write(batch)


def batch(step: int, value: float = 1.0) -> Batch:
    return Batch((ScalarColumn("x", [step], [value], [1.0]),))


def put(made: Lane, *batches: Batch) -> None:
    for one in batches:
        made.put(lambda one=one: made.writer.write(one), one)  # type: ignore[misc]


def started(writer: MemoryWriter) -> Lane:
    made = Lane(writer, lane.log_failure)
    made.start()
    return made


def test_a_batch_that_failed_is_written_later_and_in_its_place() -> None:
    is_full = True
    writer = Moody(lambda _: OSError("no space left") if is_full else None)
    made = started(writer)
    put(made, batch(1), batch(2))
    assert not made.flush(60)
    assert not made.flush(60)
    is_full = False
    put(made, batch(3))
    assert made.flush(60)
    assert writer.scalars == {"x": [(1, 1.0), (2, 1.0), (3, 1.0)]}
    assert made.close(60)


def test_a_database_that_somebody_locks_for_longer_than_it_waits_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.01}))
    path = tmp_path / "sqlite.db"
    with Tracker([SqliteWriter(path)]) as current:
        for step in range(10):
            current.save(step, x=1.0)
        assert current.flush()
        other = connect(path)
        other.execute("BEGIN EXCLUSIVE")
        for step in range(10, 20):
            current.save(step, x=1.0)
            assert not current.flush()
        other.rollback()
        other.close()
        current.save(20, x=1.0)
    with connect(path) as db:
        assert db.execute("SELECT step FROM scalars").fetchall() == [(s,) for s in range(21)]


def test_a_batch_that_is_wrong_itself_is_given_up_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = Moody(lambda b: ValueError("what is this") if b.columns[0].steps == [2] else None)
    made = started(writer)
    put(made, batch(1), batch(2), batch(3))
    with caplog.at_level(logging.WARNING):
        while len(writer.scalars.get("x", [])) < 2:
            made.flush(60)
        assert made.close(60)
    assert writer.scalars == {"x": [(1, 1.0), (3, 1.0)]}
    assert writer.num_tries == 1 + 3 + 1
    assert caplog.messages == [
        "the moody writer failed, the training goes on and it is tried again: ValueError: what is this",
        "the moody writer lost 1 value, of steps 2 to 2: ValueError: what is this",
    ]


def test_what_a_stuck_writer_does_not_take_is_bounded_and_the_oldest_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane, "MAX_KEPT_BYTES", 64 * 10)
    monkeypatch.setattr(lane, "_PATIENCE_S", 0.0)
    entered, let_go = threading.Event(), threading.Event()

    def hang(_: Batch) -> None:
        entered.set()
        assert let_go.wait(60)

    writer = Moody(hang)
    made = started(writer)
    put(made, batch(0))
    assert entered.wait(60)
    put(made, *map(batch, range(1, 30)))
    let_go.set()
    with caplog.at_level(logging.WARNING):
        assert made.close(60)
    assert [step for step, _ in writer.scalars["x"]] == [0, *range(21, 30)]
    assert caplog.messages == [
        "the moody writer lost 20 values, of steps 1 to 20: it could not keep up"
    ]


def test_a_slow_writer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "MAX_WAITING_BYTES", 64 * 2)
    num_put, num_ahead = [0], set[int]()

    def note(_: Batch) -> None:
        num_ahead.add(num_put[0] - len(writer.scalars.get("x", [])))

    writer = Moody(note)
    made = started(writer)
    for step in range(500):
        put(made, batch(step))
        num_put[0] += 1
    assert made.close(60)
    assert [step for step, _ in writer.scalars["x"]] == list(range(500))
    assert max(num_ahead) <= 2


def test_for_a_writer_that_fails_more_is_kept_than_a_slow_one_is_let_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "MAX_WAITING_BYTES", 64 * 2)
    is_full = True
    writer = Moody(lambda _: OSError("no space left") if is_full else None)
    made = started(writer)
    put(made, batch(0))
    assert not made.flush(60)
    put(made, *map(batch, range(1, 50)))
    is_full = False
    assert made.close(60)
    assert [step for step, _ in writer.scalars["x"]] == list(range(50))


def test_a_writer_that_hangs_starves_no_other() -> None:
    let_go = threading.Event()

    def hang(_: Batch) -> None:
        let_go.wait()

    hanging, kept = Moody(hang), MemoryWriter()
    current = Tracker([hanging, kept])
    current.start()
    for step in range(5):
        current.save(step, x=1.0)
        current.flush(0.01)
    deadline = time.monotonic() + 60
    while len(kept.scalars.get("x", [])) < 5 and time.monotonic() < deadline:
        current.flush(0.01)
    num_kept = len(kept.scalars.get("x", []))
    assert hanging.scalars == {}
    let_go.set()
    assert num_kept == 5
    assert current.close()
    assert hanging.scalars == kept.scalars
