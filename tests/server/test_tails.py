"""What is kept of runs for those who ask again: it is what the log says, whatever was heard of it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest
from lab_server.store.protocol import StoredEvent
from lab_server.watch.history import Part, query_metrics, read_views
from lab_server.watch.history_writer import HistoryWriter
from lab_server.watch.series import MetricFold, Tail
from lab_server.watch.tails import Tails
from tests.memory_store import MemoryStore

Plain = dict[str, dict[int, float]]


@dataclasses.dataclass
class Column:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


class CountingStore(MemoryStore):
    """Counts what is read of it."""

    num_reads = 0

    async def events(self, *arguments: Any) -> Any:
        self.num_reads += 1
        return await super().events(*arguments)

    async def histories(self, *arguments: Any) -> Any:
        self.num_reads += 1
        return await super().histories(*arguments)

    async def chunk_data(self, *arguments: Any) -> Any:
        await asyncio.sleep(0)  # as a real one
        return await super().chunk_data(*arguments)


class Rig:
    """A run, and somebody who asks for its metrics again and again."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.tails = Tails()
        self.run = Run("r1", RunRequest("mnist"))
        self.num_steps = 0

    async def say(self, *new: EncodedEvent, is_heard: bool = True) -> Sequence[StoredEvent]:
        self.run = dataclasses.replace(self.run, last_seq=self.run.last_seq + len(new))
        stored = await self.store.commit(self.run, new)
        if is_heard:
            self.tails.note(stored)
        return stored

    async def measure(self, num: int = 3, *, is_heard: bool = True) -> Sequence[StoredEvent]:
        steps = range(self.num_steps, self.num_steps + num)
        self.num_steps += num
        values = [float(step * (1 + self.run.last_seq)) for step in steps]
        column = Column("loss", steps, values)
        return await self.say(*events.encode_metrics(1, 1, [column]), is_heard=is_heard)

    async def cut(self, step: int, *, is_heard: bool = True) -> None:
        self.num_steps = step + 1
        await self.say(events.encode_truncate(2, 1, step), is_heard=is_heard)

    async def ask(self) -> Plain:
        found = await read_views(
            self.store,
            {"r1": Part(self.run.last_seq)},
            lambda _, views, data: {
                view.name: dict(zip(items.steps.tolist(), items.values.tolist(), strict=True))
                for view in views
                for items in [view.items(data)]
            },
            known=self.tails,
        )
        return {name: points for name, points in found.of_runs["r1"].items() if points}

    async def expected(self) -> Plain:
        found = await query_metrics(self.store, "r1")
        return {s.name: dict(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for s in found}


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.store.create(made.run, None)
    return made


async def test_what_was_heard_is_not_read_from_the_store(rig: Rig) -> None:
    await rig.measure()
    first = await rig.ask()
    num_reads = rig.store.num_reads
    for _ in range(3):
        await rig.measure()
        await rig.say(*events.encode_log(1, 1, ["a line"]))
        last = await rig.ask()
    assert rig.store.num_reads == num_reads
    assert (len(first["loss"]), len(last["loss"])) == (3, 12)
    assert last == await rig.expected()


async def test_what_was_not_heard_is_read_once_and_listened_to_from_there(rig: Rig) -> None:
    await rig.measure()
    await rig.ask()
    await rig.measure(is_heard=False)
    await rig.measure()
    num_reads = rig.store.num_reads
    assert await rig.ask() == await rig.expected()
    assert rig.store.num_reads > num_reads
    await rig.measure()
    expected, num_reads = await rig.expected(), rig.store.num_reads
    assert await rig.ask() == expected
    assert rig.store.num_reads == num_reads


async def test_who_does_not_ask_again_is_not_kept_informed_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.watch.tails._MAX_HEARD_BYTES", 200)
    await rig.measure()
    await rig.ask()
    for _ in range(20):
        await rig.measure()
    (kept,) = rig.tails._kept.values()
    assert sum(map(len, kept.heard)) < 400
    assert await rig.ask() == await rig.expected()


async def test_an_answer_stays_as_it_was_when_more_comes_and_when_a_resume_cuts(rig: Rig) -> None:
    await rig.measure(10)
    read = await rig.tails.read(rig.store, {"r1": rig.run.last_seq}, ())
    steps, values = read["r1"][1].points["loss"]
    before = values.copy()
    await rig.cut(4)
    await rig.measure(10)
    await rig.ask()
    assert steps.tolist() == list(range(10))
    np.testing.assert_equal(values, before)


async def test_chunks_that_were_replaced_are_looked_for_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.watch.tails._FRESH_S", 1e9)
    writer = HistoryWriter(rig.store)
    await rig.measure()
    await writer.write("r1")
    await rig.ask()
    await rig.measure()
    await writer.write("r1")  # the first chunk has room, so it is another now
    async with asyncio.timeout(30):
        assert await rig.ask() == await rig.expected()


class SlowFold(MetricFold):
    """Tells whether its tail is taken while a thread adds to it."""

    def __init__(self, may_end: threading.Event, overlaps: list[bool]) -> None:
        super().__init__()
        self.began, self.may_end, self.overlaps = asyncio.Event(), may_end, overlaps
        self._loop = asyncio.get_running_loop()
        self._is_adding = False

    def add(self, payloads: Iterable[bytes]) -> None:
        self._is_adding = True
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.may_end.wait(30)
        super().add(payloads)
        self._is_adding = False

    def tail(self) -> Tail:
        self.overlaps.append(self._is_adding)
        return super().tail()


@dataclasses.dataclass
class SlowFolds:
    """Those that were made; all go on together."""

    made: list[SlowFold] = dataclasses.field(default_factory=list)
    may_end: threading.Event = dataclasses.field(default_factory=threading.Event)
    overlaps: list[bool] = dataclasses.field(default_factory=list)

    def __call__(self, _is_wanted: object) -> SlowFold:
        self.made.append(SlowFold(self.may_end, self.overlaps))
        return self.made[-1]


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> SlowFolds:
    made = SlowFolds()
    monkeypatch.setattr("lab_server.watch.tails.new_fold", made)
    return made


async def test_nobody_looks_into_what_a_thread_adds_to_for_somebody_else(
    rig: Rig, folds: SlowFolds, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds.may_end.set()
    await rig.store.create(dataclasses.replace(rig.run, id="r2", last_seq=0), None)
    await rig.measure()
    is_at_r2, may_go_on = asyncio.Event(), asyncio.Event()
    read = rig.store.events

    async def events_of(run_id: str, *arguments: Any) -> Any:
        if run_id == "r2":
            is_at_r2.set()
            await may_go_on.wait()
        return await read(run_id, *arguments)

    monkeypatch.setattr(rig.store, "events", events_of)
    both = asyncio.create_task(rig.tails.read(rig.store, {"r1": rig.run.last_seq, "r2": 1}, ()))
    await is_at_r2.wait()
    folds.may_end.clear()
    folds.made[0].began.clear()
    await rig.measure(is_heard=False)
    more = asyncio.create_task(rig.tails.read(rig.store, {"r1": rig.run.last_seq}, ()))
    await folds.made[0].began.wait()
    may_go_on.set()
    await asyncio.wait({both}, timeout=0.2)
    folds.may_end.set()
    await asyncio.gather(both, more)
    assert not any(folds.overlaps)


async def test_what_a_cancelled_reader_left_half_read_is_read_again(
    rig: Rig, folds: SlowFolds
) -> None:
    await rig.measure()
    asking = asyncio.create_task(rig.ask())
    await asyncio.wait({asking}, timeout=0.1)
    await folds.made[0].began.wait()
    asking.cancel()
    await asyncio.wait({asking})
    again = asyncio.create_task(rig.ask())
    await asyncio.wait({again}, timeout=0.1)
    folds.may_end.set()
    assert await again == {"loss": {0: 0.0, 1: 1.0, 2: 2.0}}
    assert len(folds.made) == 2, "the thread of the first one may still add to it"
    assert not any(folds.overlaps)


STEPS = st.one_of(
    st.tuples(st.just("measure"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("cut"), st.integers(0, 12), st.booleans()),
    st.tuples(st.sampled_from(["ask", "write"]), st.just(0), st.just(False)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=25))
async def test_it_is_what_the_log_says(script: list[tuple[str, int, bool]]) -> None:
    rig = Rig()
    await rig.store.create(rig.run, None)
    for what, num, is_heard in [*script, ("ask", 0, False)]:
        match what:
            case "measure":
                await rig.measure(num, is_heard=is_heard)
            case "cut" if num < rig.num_steps:
                await rig.cut(num, is_heard=is_heard)
            case "write":
                await HistoryWriter(rig.store).write("r1")
            case "ask":
                assert await rig.ask() == await rig.expected()
