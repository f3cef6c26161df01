"""A run's folded history: whatever is written of it, and when, queries answer as the log says."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lab_server.errors import NotFound, StoreError
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore, Store
from lab_server.store.protocol import NewSeriesChunk
from lab_server.watch import chunks, history_plan, history_writer
from lab_server.watch.history import query_metrics
from lab_server.watch.history_writer import HistoryWriter
from lab_server.watch.series import Series
from tests.memory_store import MemoryStore

Script = list[tuple[str, Any]]
Plain = dict[str, dict[int, bytes]]


@dataclasses.dataclass
class Column:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


class FailingStore(MemoryStore):
    """Refuses to write a history while it is told to."""

    is_failing = False

    async def write_history(
        self,
        run_id: str,
        after_seq: int,
        last_seq: int,
        removed: Sequence[int],
        added: Sequence[NewSeriesChunk],
    ) -> bool:
        if self.is_failing:
            raise StoreError("the disk of the server is full")
        return await super().write_history(run_id, after_seq, last_seq, removed, added)

    def damage(self) -> None:
        """Cut all data of the chunks short."""
        for id, (run_id, chunk) in self._chunks.items():
            cut = dataclasses.replace(chunk, summary=chunk.summary[:-1], points=chunk.points[:-1])
            self._chunks[id] = run_id, cut


def exactly(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def plain(series: Sequence[Series]) -> Plain:
    return {
        s.name: {
            step: exactly(value)
            for step, value in zip(s.steps.tolist(), s.values.tolist(), strict=True)
        }
        for s in series
    }


async def grow(store: Store, new: Sequence[EncodedEvent]) -> None:
    run = await store.get("r1")
    await store.commit(dataclasses.replace(run, last_seq=run.last_seq + len(new)), new)


@pytest.fixture
def small_chunks() -> Iterator[None]:
    with patched():
        yield


def patched() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(chunks, "MAX_CHUNK_POINTS", 8)
    patch.setattr(chunks, "BUCKET_POINTS", 3)
    patch.setattr(history_plan, "_FINE_POINTS", 2)
    patch.setattr(history_writer, "_EVENTS_AT_ONCE", 3)

    class Context:
        def __enter__(self) -> None: ...
        def __exit__(self, *exc: object) -> None:
            patch.undo()

    return Context()


VALUES = st.floats(-5, 5) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e300])
STEPS = st.lists(st.integers(0, 60), min_size=1, max_size=12)
SCRIPTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("measure"),
            st.tuples(st.sampled_from("ab"), STEPS, st.lists(VALUES, min_size=12, max_size=12)),
        ),
        # as most runs do: on and on
        st.tuples(st.just("go on"), st.tuples(st.integers(1, 20), VALUES)),
        st.tuples(st.just("truncate"), st.integers(-1, 70)),
        st.tuples(
            st.sampled_from(["write", "write", "write", "fail", "drop", "damage"]), st.none()
        ),
    ),
    max_size=25,
)
BOUNDS = st.none() | st.integers(-1, 80)


GO_ON = ("go on", (20, 0.5))
WRITE = ("write", None)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@example([GO_ON, WRITE, ("truncate", 5)], [(0, None, None)])
@example([GO_ON, WRITE, ("truncate", 5), WRITE, GO_ON, WRITE], [(3, 2, 23)])
@example([GO_ON, WRITE, ("truncate", 4), ("measure", ("a", [70, 90], [1.0] * 12))], [(0, 3, None)])
@given(
    script=SCRIPTS,
    queries=st.lists(st.tuples(st.integers(0, 9), BOUNDS, BOUNDS), min_size=1, max_size=6),
)
def test_queries_answer_as_a_plain_fold_of_the_log_whatever_was_written_or_lost(
    script: Script, queries: list[tuple[int, int | None, int | None]]
) -> None:
    with patched():
        asyncio.run(_play(script, queries))


async def _play(  # noqa: C901  # the script's actions, one by one
    script: Script, queries: list[tuple[int, int | None, int | None]]
) -> None:
    store = FailingStore()
    await store.create(Run("r1", RunRequest("mnist")), None)
    writer = HistoryWriter(store)
    expected: Plain = {}
    step = 0
    for what, argument in script:
        match what:
            case "measure":
                name, steps, values = argument
                values = values[: len(steps)]
                await grow(store, events.encode_metrics(1, 1, [Column(name, steps, values)]))
                found = dict(zip(steps, map(exactly, values), strict=True))
                expected[name] = expected.get(name, {}) | found
            case "go on":
                num, value = argument
                steps = list(range(step, step + num))
                step += num
                columns = [Column(name, steps, [value] * num) for name in ("a", "c")]
                await grow(store, events.encode_metrics(1, 1, columns))
                for name in ("a", "c"):
                    expected[name] = expected.get(name, {}) | dict.fromkeys(steps, exactly(value))
            case "truncate":
                await grow(store, [events.encode_truncate(2, 1, argument)])
                step = min(step, argument + 1)
                for name, points in list(expected.items()):
                    expected[name] = {s: v for s, v in points.items() if s <= argument}
            case "write":
                await writer.write("r1")
                assert await store.runs_with_history_behind() == ()
            case "fail":
                store.is_failing = True
                if await store.runs_with_history_behind():
                    with pytest.raises(StoreError):
                        await writer.write("r1")
                store.is_failing = False
            case "drop":
                await store.drop_history("r1")
            case "damage":
                store.damage()
        await _check(store, expected, 0, None, None)
    for max_points, min_step, max_step in queries:
        await _check(store, expected, max_points, min_step, max_step)


async def _check(
    store: Store, expected: Plain, max_points: int, min_step: int | None, max_step: int | None
) -> None:
    def is_in(step: int) -> bool:
        return (min_step is None or step >= min_step) and (max_step is None or step <= max_step)

    wanted = {
        name: {step: value for step, value in points.items() if is_in(step)}
        for name, points in expected.items()
    }
    wanted = {name: points for name, points in wanted.items() if points}

    found = await query_metrics(
        store, "r1", max_points=max_points, min_step=min_step, max_step=max_step
    )

    assert {s.name: s.num_points for s in found} == {n: len(p) for n, p in wanted.items()}
    assert all((np.diff(s.steps) > 0).all() for s in found)
    if not max_points:
        assert plain(found) == wanted
        return
    for name, points in plain(found).items():
        assert 0 < len(points) <= max_points
        assert points.items() <= wanted[name].items()


@pytest.mark.slow
async def test_a_plot_from_summaries_has_the_spikes_the_ends_and_where_nan_begins(
    tmp_path: Path,
) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/lab.db")
    await store.create(Run("r1", RunRequest("mnist")), None)
    values = np.sin(np.arange(100_000) / 5000)
    values[[31_234, 70_001]] = [99.0, -99.0]
    values[50_100:52_000] = math.nan
    for start in range(0, 100_000, 10_000):
        piece = slice(start, start + 10_000)
        column = Column("a", list(range(100_000))[piece], values[piece].tolist())
        await grow(store, events.encode_metrics(1, 1, [column]))
    await HistoryWriter(store).write("r1")
    (found,) = (await store.history("r1")).chunks[:1]
    assert found.num_points == chunks.MAX_CHUNK_POINTS
    await _forget_points(store)

    (series,) = await query_metrics(store, "r1", max_points=150)

    assert {0, 31_234, 50_100, 70_001, 99_999} <= set(series.steps.tolist())
    assert (series.num_points, len(series.steps)) == (100_000, 150)
    assert all(
        exactly(v) == exactly(values[s]) for s, v in zip(series.steps, series.values, strict=True)
    )
    await store.close()


async def _forget_points(store: SqlStore) -> None:
    """So that a query that reads all points, and not summaries, is seen to fail."""
    import sqlite3

    with sqlite3.connect(store._database.place) as connection:
        connection.execute("UPDATE series_chunks SET points = x''")
    connection.close()


@pytest.mark.usefixtures("small_chunks")
async def test_a_narrow_range_reads_only_the_chunks_in_it() -> None:
    store = MemoryStore()
    await store.create(Run("r1", RunRequest("mnist")), None)
    await grow(store, events.encode_metrics(1, 1, [Column("a", range(80), [1.0] * 80)]))
    await HistoryWriter(store).write("r1")
    read: list[int] = []
    chunk_data = store.chunk_data

    async def noting(ids: Sequence[int], what: Any) -> dict[int, bytes]:
        read.extend(ids)
        return await chunk_data(ids, what)

    store.chunk_data = noting  # type: ignore[method-assign]
    (series,) = await query_metrics(store, "r1", min_step=20, max_step=30)

    assert series.steps.tolist() == list(range(20, 31))
    assert len(read) == 2


def state(what: RunState) -> EncodedEvent:
    return events.encode_state(1, 1, what)


async def _settled(store: Store, run_ids: Mapping[str, bool]) -> None:
    """Wait until exactly the runs whose value is True are behind."""
    wanted = tuple(sorted(run_id for run_id, is_behind in run_ids.items() if is_behind))
    async with asyncio.timeout(30):
        while await store.runs_with_history_behind() != wanted:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def test_histories_are_written_when_a_run_ends_grows_long_or_was_left_behind() -> None:
    store = MemoryStore()
    for run_id in ("left", "ends", "long", "short"):
        await store.create(Run(run_id, RunRequest("mnist")), None)
    metrics = events.encode_metrics(1, 1, [Column("a", [1], [1.0])])

    async def add(run_id: str, new: Sequence[EncodedEvent]) -> None:
        run = await store.get(run_id)
        run = dataclasses.replace(run, last_seq=run.last_seq + len(new))
        writer.note(await store.commit(run, new))

    writer = HistoryWriter(store, max_behind=5)
    await add("left", metrics)
    writer = HistoryWriter(store, max_behind=5)
    task = asyncio.create_task(writer.run())
    await _settled(store, {})
    await add("ends", [*metrics, state(RunState.COMPLETED)])
    await add("long", metrics * 5)
    await add("short", [*metrics, state(RunState.RUNNING)])
    await _settled(store, {"short": True})
    await add("short", metrics * 3)
    await _settled(store, {})
    task.cancel()


async def test_the_writer_goes_on_after_the_store_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "_RETRY_S", 0)
    store = FailingStore()
    store.is_failing = True
    await store.create(Run("r1", RunRequest("mnist")), None)
    await grow(store, events.encode_metrics(1, 1, [Column("a", [1], [1.0])]))
    task = asyncio.create_task(HistoryWriter(store).run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()

    store.is_failing = False

    await _settled(store, {})
    task.cancel()


async def test_a_run_whose_log_cannot_be_read_does_not_keep_others_from_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_writer, "_RETRY_S", 0)
    store = MemoryStore()
    for run_id in ("r1", "r2", "r3"):
        run = await store.create(Run(run_id, RunRequest("mnist")), None)
        metrics = events.encode_metrics(1, 1, [Column("a", [1], [1.0])])
        await store.commit(dataclasses.replace(run, last_seq=1), metrics)
    read_events = store.events

    async def failing(run_id: str, *args: Any) -> Any:
        if run_id == "r1":
            raise StoreError("the events are damaged")
        return await read_events(run_id, *args)

    monkeypatch.setattr(store, "events", failing)
    task = asyncio.create_task(HistoryWriter(store).run())

    await _settled(store, {"r1": True})
    task.cancel()


async def test_a_mistake_in_one_run_is_logged_and_keeps_no_other_from_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    for run_id in ("r1", "r2"):
        run = await store.create(Run(run_id, RunRequest("mnist")), None)
        metrics = events.encode_metrics(1, 1, [Column("a", [1], [1.0])])
        await store.commit(dataclasses.replace(run, last_seq=1), metrics)
    read_events, mistakes = store.events, ["r1"]

    async def failing(run_id: str, *args: Any) -> Any:
        if run_id in mistakes:
            raise ZeroDivisionError("a mistake of ours")
        return await read_events(run_id, *args)

    monkeypatch.setattr(store, "events", failing)
    writer = HistoryWriter(store)
    with capture_logs() as lines:
        task = asyncio.create_task(writer.run())
        await _settled(store, {"r1": True})
    assert [(line["run"], line["log_level"]) for line in lines] == [("r1", "error")]
    mistakes.clear()
    run = await store.get("r1")
    writer.note(await store.commit(dataclasses.replace(run, last_seq=2), [state(RunState.FAILED)]))
    await _settled(store, {})
    task.cancel()


async def test_nothing_is_kept_of_runs_that_are_not_due() -> None:
    store = MemoryStore()
    writer = HistoryWriter(store)
    for number in range(3):
        run = await store.create(Run(f"r{number}", RunRequest("mnist")), None)
        changed = dataclasses.replace(run, last_seq=1)
        writer.note(await store.commit(changed, [state(RunState.CREATED)]))
        await store.delete(run.id)
    assert not [name for name, value in vars(writer).items() if "r1" in str(value)]


async def test_a_run_deleted_while_its_history_is_written_stays_deleted() -> None:
    store = MemoryStore()
    await store.create(Run("r1", RunRequest("mnist")), None)
    await grow(store, events.encode_metrics(1, 1, [Column("a", [1], [1.0])]))
    writing = asyncio.ensure_future(HistoryWriter(store).write("r1"))
    await asyncio.sleep(0)
    await store.delete("r1")
    await store.purge("r1")
    await writing

    assert (await store.history("r1")).chunks == ()
    with pytest.raises(NotFound):
        await query_metrics(store, "r1")
    await HistoryWriter(store).write("r1")


async def test_a_damaged_history_is_a_line_of_the_log_with_its_run() -> None:
    store = FailingStore()
    await store.create(Run("r1", RunRequest("mnist")), None)
    await grow(store, events.encode_metrics(1, 1, [Column("a", [1], [1.0])]))
    await HistoryWriter(store).write("r1")
    store.damage()

    with capture_logs() as lines:
        await query_metrics(store, "r1")

    assert [(line["run"], line["log_level"]) for line in lines] == [("r1", "error")]
