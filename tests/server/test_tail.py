"""What a trainer measured last: in its tail, and, when it is dead, once and only once in its spool."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_core.tracker import Tracker
from lab_server.executors.last_rows import take_over
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.files.tail import Mark, Row, TailReader, TailWriter, columns_of
from lab_server.messages import events
from lab_server.model.media import MediaLimits
from lab_server.model.run import RunState
from lab_server.trainer.outbox import Outbox, SpoolMetrics

NAMES = st.sampled_from([("a",), ("a", "b"), ("ü", "x\x00y"), tuple("abcdefgh")])


@settings(deadline=None)
@given(
    saves=st.lists(st.tuples(NAMES, st.booleans(), st.integers(0, 3)), max_size=80),
    segment_bytes=st.sampled_from([150, 400, 4000]),
)
def test_rows_that_were_taken_are_there_until_the_spool_has_them(
    tmp_path_factory: pytest.TempPathFactory,
    saves: list[tuple[tuple[str, ...], bool, int]],
    segment_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("tail") / "1.tail"
    tail = TailWriter(path, segment_bytes)
    wanted: list[Row] = []
    for number, (names, has_own_steps, num_spooled) in enumerate(saves, 1):
        steps = [number + i for i in range(len(names))] if has_own_steps else None
        values = [number + i / 8 for i in range(len(names))]
        if tail.put(number, number, number / 4, names, values, steps):
            at = steps or [number] * len(names)
            wanted.append(Row(number, number / 4, tuple(zip(names, at, values, strict=True))))
        if num_spooled and wanted:
            tail.spooled_row = wanted[:num_spooled][-1].number
            wanted = wanted[num_spooled:]
        assert tail.rows() == wanted
        reader = TailReader(path)
        assert reader.rows_after(tail.spooled_row) == wanted
        reader.close()


def test_a_full_tail_takes_no_more_until_the_spool_has_some(tmp_path: Path) -> None:
    tail = TailWriter(tmp_path / "1.tail", 500)
    row = 0
    while tail.put(row + 1, 1, 1.0, ("x",), [0.5], None):
        row += 1
    assert [r.number for r in tail.rows()] == list(range(1, row + 1))
    tail.spooled_row = row
    assert tail.put(row + 2, 1, 1.0, ("x",), [0.5], None)
    assert [r.number for r in tail.rows()] == [row + 2]


def test_a_row_that_is_too_long_is_refused_and_harms_no_other(tmp_path: Path) -> None:
    tail = TailWriter(tmp_path / "1.tail", 500)
    names = tuple(f"metric{i}" for i in range(100))
    assert not tail.put(1, 1, 1.0, names, [0.5] * 100, None)
    assert tail.put(2, 1, 1.0, ("x",), [math.inf], None)
    assert [r.number for r in tail.rows()] == [2]


def test_a_torn_row_ends_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "1.tail"
    tail = TailWriter(path)
    for row in (1, 2, 3):
        assert tail.put(row, row, 1.0, ("x",), [0.5], None)
    tail._memory[tail._position - 3] ^= 0xFF
    assert [r.number for r in tail.rows()] == [1, 2]


# ---- taking over


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.make()
    return made


@pytest.fixture
def outbox(folder: RunFolder) -> Outbox:
    return Outbox(folder, 1)


def points(folder: RunFolder) -> list[tuple[str, int, float]]:
    """Return what is in the spool's metrics."""
    found = []
    with SpoolReader(folder.spool(1)) as spool:
        while records := spool.read():
            for record in records:
                metrics = events.decode(record.payload).metrics
                for column in metrics.columns:
                    rows = column.rows or range(len(column.values))
                    found += [
                        (column.name, metrics.steps[row], value)
                        for row, value in zip(rows, column.values, strict=True)
                    ]
    return found


def dies(folder: RunFolder) -> int:
    """Take over what a dead trainer left, as its supervisor does; return how many rows it were."""
    with SpoolReader(folder.spool(1)) as spool:
        while spool.read():
            pass
        return take_over(folder, 1, spool.offset)


def saved(outbox: Outbox, *steps: int) -> list[tuple[str, int, float]]:
    """Save a row at each step, and write nothing."""
    for step in steps:
        assert outbox.tail.put(step, step, 100.0 + step, ("x",), [step / 4], None)
    return [("x", step, step / 4) for step in steps]


def spooled(outbox: Outbox, *steps: int) -> None:
    """Send the batch of some rows, the last of which have the highest numbers."""
    rows = [Row(step, 100.0, (("x", step, step / 4),)) for step in steps]
    outbox.send_metrics(events.encode_metrics(1, 0, columns_of(rows)), steps[-1])


def test_what_was_never_spooled_is_taken_and_only_once(folder: RunFolder, outbox: Outbox) -> None:
    wanted = saved(outbox, 1, 2, 3)
    assert dies(folder) == 3
    assert points(folder) == wanted
    assert dies(folder) == 0, "a server that died before it committed comes again"
    assert points(folder) == wanted
    with SpoolReader(folder.spool(1)) as spool:
        (record,) = spool.read()
    assert events.decode(record.payload).time_unix_ns == 103_000_000_000, "the trainer's own time"


def test_what_the_spool_has_is_not_taken(folder: RunFolder, outbox: Outbox) -> None:
    wanted = saved(outbox, 1, 2, 3, 4, 5)
    spooled(outbox, 1, 2)
    spooled(outbox, 3)
    assert dies(folder) == 2
    assert points(folder) == wanted
    assert dies(folder) == 0


def test_events_of_other_kinds_may_come_between(folder: RunFolder, outbox: Outbox) -> None:
    wanted = saved(outbox, 1, 2)
    spooled(outbox, 1)
    outbox.send(events.encode_log(1, 0, ["a line"]))
    assert dies(folder) == 1
    assert points(folder) == wanted


def test_a_batch_that_was_announced_and_not_appended_is_taken(
    folder: RunFolder, outbox: Outbox
) -> None:
    wanted = saved(outbox, 1, 2, 3)
    spooled(outbox, 1)
    outbox.tail.mark(Mark(3, outbox._spool.end, outbox._spool.end + 100))
    assert dies(folder) == 2
    assert points(folder) == wanted


@pytest.mark.parametrize("num_lost_bytes", [1, 10, 30])
def test_a_batch_whose_record_is_torn_is_taken(
    folder: RunFolder, outbox: Outbox, num_lost_bytes: int
) -> None:
    wanted = saved(outbox, 1, 2, 3)
    spooled(outbox, 1)
    spooled(outbox, 2, 3)
    os.truncate(folder.spool(1), folder.spool(1).stat().st_size - num_lost_bytes)
    assert dies(folder) == 2
    assert points(folder) == wanted
    assert dies(folder) == 0


def test_a_batch_of_several_records_that_was_torn_between_them_is_there_once(
    folder: RunFolder, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = saved(outbox, *range(1, 41))
    spooled(outbox, 1)
    monkeypatch.setattr(events, "MAX_METRICS_BYTES", 300)
    spooled(outbox, *range(2, 41))
    with SpoolReader(folder.spool(1)) as spool:
        ends = [record.end_offset for record in spool.read()]
    assert len(ends) > 3
    os.truncate(folder.spool(1), ends[2] + 5)
    assert 0 < dies(folder) < 39
    assert Counter(points(folder)) == Counter(wanted)
    assert dies(folder) == 0


def test_a_torn_mark_is_none(folder: RunFolder, outbox: Outbox) -> None:
    wanted = saved(outbox, 1, 2, 3)
    spooled(outbox, 1)
    outbox.tail.mark(Mark(3, outbox._spool.end, 1000))
    outbox.tail._memory[128 + 3] ^= 0xFF
    assert dies(folder) == 2
    assert points(folder) == wanted


def test_without_a_tail_there_is_nothing_to_take(folder: RunFolder) -> None:
    assert take_over(folder, 1, 0) == 0
    folder.tail(1).touch()
    assert take_over(folder, 1, 0) == 0


def test_a_full_disk_gets_the_reserve_first(folder: RunFolder, outbox: Outbox) -> None:
    saved(outbox, 1)
    assert folder.reserve(1).exists()
    assert dies(folder) == 1
    assert not folder.reserve(1).exists()


def test_an_outcome_comes_behind_all_that_was_saved(folder: RunFolder, outbox: Outbox) -> None:
    wanted = saved(outbox, 1, 2)
    spooled(outbox, 1)
    assert outbox.finish(RunState.COMPLETED)
    assert points(folder) == wanted
    with SpoolReader(folder.spool(1)) as spool:
        *_, last = spool.read()
    assert events.decode_state(last.payload) is not None


def test_a_tracker_puts_its_rows_there_before_its_batches(
    folder: RunFolder, outbox: Outbox
) -> None:
    current = Tracker([SpoolMetrics(outbox, MediaLimits())])
    for step in range(5):
        current.save(step, loss=step / 8)
    assert len(outbox.tail.rows()) == 5
    current.start()
    assert current.flush()
    assert outbox.tail.rows() == []
    current.close()
    assert dies(folder) == 0
    assert points(folder) == [("loss", step, step / 8) for step in range(5)]
