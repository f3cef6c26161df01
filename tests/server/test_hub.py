"""A watcher gets the same gap-free log, whenever it joins and however slowly it reads."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sys
from collections.abc import AsyncIterator, Sequence

import pytest

from lab_server.errors import NotFound, Unavailable
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import StoredEvent
from lab_server.watch import hub, log_cache
from lab_server.watch.hub import Hub
from tests.memory_store import MemoryStore

LONG_S = 1e6


class Log:
    """Writes runs as the supervisor does: commit, then publish."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.hub = Hub(self.store, heartbeat_s=LONG_S, min_pause_s=0.0)
        self.runs: dict[str, Run] = {}

    async def create(self, run_id: str = "r1") -> None:
        self.runs[run_id] = await self.store.create(Run(run_id, RunRequest("mnist")), None)

    async def commit(self, run_id: str, event: EncodedEvent) -> tuple[StoredEvent, ...]:
        run = self.runs[run_id]
        state = events.decode_state(event.payload).state if event.kind == "state" else run.state
        run = dataclasses.replace(run, last_seq=run.last_seq + 1, state=state)
        self.runs[run_id] = run
        return await self.store.commit(run, [event])

    async def say(self, num: int = 1, run_id: str = "r1", size: int = 10) -> None:
        for _ in range(num):
            (event,) = events.encode_log(1, 1, ["x" * size])
            self.hub.publish(await self.commit(run_id, event))

    async def state(self, state: RunState, run_id: str = "r1") -> None:
        self.hub.publish(await self.commit(run_id, events.encode_state(1, 1, state)))


@pytest.fixture
async def log() -> Log:
    log = Log()
    await log.create()
    return log


def watch(log: Log, after_seq: int = 0, run_id: str = "r1") -> AsyncIterator[Sequence[StoredEvent]]:
    return log.hub.watch(run_id, after_seq)


async def seqs(watcher: AsyncIterator[Sequence[StoredEvent]]) -> list[int]:
    return [event.seq async for batch in watcher for event in batch]


async def take(watcher: AsyncIterator[Sequence[StoredEvent]], num: int) -> list[int]:
    """Return the seqs of at least num events."""
    found: list[int] = []
    while len(found) < num:
        found += [event.seq for event in await anext(watcher)]
    return found


async def settled(task: asyncio.Task[object]) -> None:
    """Let a task run until it waits for something that only the test can give."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()


async def test_a_late_joiner_gets_the_whole_log_and_the_end(log: Log) -> None:
    await log.say(5)
    await log.state(RunState.COMPLETED)

    assert await seqs(watch(log)) == [1, 2, 3, 4, 5, 6]
    assert await seqs(watch(log, after_seq=4)) == [5, 6]


async def test_a_watcher_begins_with_a_little_and_gets_the_rest_in_large_batches(log: Log) -> None:
    await log.say(200, size=2000)
    await log.state(RunState.COMPLETED)

    batches = [batch async for batch in watch(log, after_seq=20)]

    assert [event.seq for batch in batches for event in batch] == list(range(21, 202))
    first, second = (sum(len(event.payload) for event in batch) for batch in batches[:2])
    assert first <= hub.FIRST_BATCH_BYTES < hub.BATCH_BYTES // 2 < second


async def test_an_observer_is_told_of_the_events_of_all_runs(log: Log) -> None:
    await log.create("r2")
    told: list[tuple[str, int]] = []
    log.hub.observe(lambda found: told.extend((event.run_id, event.seq) for event in found))

    await log.say(2)
    await log.say(1, "r2")

    assert told == [("r1", 1), ("r1", 2), ("r2", 1)]


async def test_there_is_no_gap_between_history_and_live(log: Log) -> None:
    await log.say(3)
    watcher = asyncio.ensure_future(seqs(watch(log)))
    await settled(watcher)
    await log.say(3)
    await log.state(RunState.COMPLETED)

    assert await watcher == [1, 2, 3, 4, 5, 6, 7]


async def test_watchers_that_join_at_any_time_get_the_same(log: Log) -> None:
    rng = random.Random(1)
    watchers: list[asyncio.Task[list[int]]] = []
    for _ in range(60):
        match rng.randrange(4):
            case 0:
                watchers.append(asyncio.ensure_future(seqs(watch(log))))
            case 1:
                await log.say(rng.randrange(1, 9), size=rng.choice([10, 100_000]))
            case 2:
                await log.create(f"r{rng.random()}")
            case 3:
                await asyncio.sleep(0)
    await log.state(RunState.STOPPED)

    expected = list(range(1, log.runs["r1"].last_seq + 1))
    assert watchers
    for watcher in watchers:
        assert await watcher == expected


async def test_watching_resumes_after_the_last_seen_event(log: Log) -> None:
    await log.say(4)
    first = await take(watch(log), 2)
    await log.say(2)
    await log.state(RunState.FAILED)

    rest = await seqs(watch(log, after_seq=first[-1]))

    assert first + rest == [1, 2, 3, 4, 5, 6, 7]


async def test_watching_from_the_terminal_event_ends_at_once(log: Log) -> None:
    await log.say(1)
    await log.state(RunState.COMPLETED)

    assert await seqs(watch(log, after_seq=2)) == []


async def test_a_resumed_run_goes_on_past_its_earlier_end(log: Log) -> None:
    await log.say(1)
    await log.state(RunState.STOPPED)
    await log.state(RunState.QUEUED)
    watcher = asyncio.ensure_future(seqs(watch(log)))
    at_the_end = asyncio.ensure_future(seqs(watch(log, after_seq=2)))
    await settled(watcher)
    await log.say(1)
    await log.state(RunState.COMPLETED)

    assert await watcher == [1, 2, 3, 4, 5]
    assert await at_the_end == [3, 4, 5]


async def test_a_run_resumed_while_a_watcher_holds_its_end_goes_on_for_it(log: Log) -> None:
    await log.state(RunState.STOPPED)
    watcher = watch(log)
    assert await take(watcher, 1) == [1]
    await log.state(RunState.QUEUED)
    await log.state(RunState.COMPLETED)

    assert await seqs(watcher) == [2, 3]


async def test_an_event_that_is_committed_and_not_yet_published_is_not_missed(log: Log) -> None:
    await log.state(RunState.RUNNING)
    watcher = watch(log)
    assert await take(watcher, 1) == [1]  # the history; from here on it reads what was published
    await log.commit("r1", events.encode_state(1, 1, RunState.COMPLETED))

    assert await seqs(watcher) == [2]


async def test_an_idle_watcher_gets_heartbeats(log: Log) -> None:
    await log.say(1)
    log.hub = Hub(log.store, heartbeat_s=0.0, min_pause_s=0.0)
    watcher = watch(log)

    assert [len(await anext(watcher)) for _ in range(4)] == [1, 0, 0, 0]
    await log.say(1)
    assert await take(watcher, 1) == [2]


async def test_a_stalled_reader_costs_nothing_and_loses_nothing(log: Log) -> None:
    stalled = watch(log)
    await log.say(1)
    await take(stalled, 1)
    quick = asyncio.ensure_future(seqs(watch(log)))
    await log.say(300, size=20_000)
    in_memory = sum(len(e.payload) for tail in log.hub._tails.values() for e in tail.events)

    assert in_memory <= log_cache.TAIL_BYTES
    await log.state(RunState.COMPLETED)
    assert await quick == list(range(1, 303))
    assert await seqs(stalled) == list(range(2, 303))


async def test_the_more_subscribers_the_smaller_the_batches(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BATCHES_BYTES", 100_000)
    monkeypatch.setattr(hub, "BATCH_BYTES", 60_000)
    monkeypatch.setattr(hub, "MIN_BATCH_BYTES", 2_000)
    await log.say(300, size=960)
    crowd: list[AsyncIterator[Sequence[StoredEvent]]] = []

    async def batch_bytes(num_subscribers: int) -> int:
        while len(crowd) < num_subscribers:
            crowd.append(watch(log))
            await anext(crowd[-1])
        return sum(len(event.payload) for event in await anext(crowd[-1]))

    sizes = {num: await batch_bytes(num) for num in (1, 2, 10, 50, 60)}
    assert [round(size / 10_000, 1) for size in sizes.values()] == [5.9, 5.0, 1.0, 0.2, 0.2]


async def test_a_batch_that_was_given_is_kept_by_nobody_else(log: Log) -> None:
    await log.say(3)
    for watcher in (watch(log), log.hub.watch_all(0)):
        batch = await anext(watcher)
        assert sys.getrefcount(batch) == 2


async def test_memory_is_bounded_over_many_runs(log: Log) -> None:
    for index in range(hub.MAX_TAILS + 10):
        await log.create(f"x{index}")
        await log.say(1, run_id=f"x{index}")

    assert len(log.hub._tails) == hub.MAX_TAILS


async def test_the_run_that_was_silent_longest_leaves_memory_first(log: Log) -> None:
    ids = [f"x{index}" for index in range(hub.MAX_TAILS)]
    for run_id in ids:
        await log.create(run_id)
        await log.say(1, run_id=run_id)
    await log.say(1, run_id=ids[0])
    await log.say(1)

    assert list(log.hub._tails) == [*ids[2:], ids[0], "r1"]


async def test_an_event_that_is_published_twice_is_given_once(log: Log) -> None:
    await log.say(1)
    watcher = watch(log)
    assert await take(watcher, 1) == [1]
    published = await log.commit("r1", events.encode_log(1, 1, ["x"])[0])
    published += await log.commit("r1", events.encode_log(1, 1, ["x"])[0])
    log.hub.publish(published)
    log.hub.publish(published)
    log.hub.publish(published[:1])
    await log.state(RunState.COMPLETED)
    kept = log.hub._tails["r1"].after(0, 10**6)

    assert await seqs(watcher) == [2, 3, 4]
    assert kept is not None
    assert [event.seq for event in kept] == [1, 2, 3, 4]


async def test_an_unknown_run_is_not_found(log: Log) -> None:
    with pytest.raises(NotFound):
        await seqs(watch(log, run_id="r2"))


async def test_watchers_of_a_deleted_run_are_told(log: Log) -> None:
    await log.say(1)
    watcher = watch(log)
    await take(watcher, 1)
    rest = asyncio.ensure_future(seqs(watcher))
    await settled(rest)
    await log.store.delete("r1")
    log.hub.forget("r1")

    with pytest.raises(NotFound):
        await rest


async def test_closing_ends_every_watcher_with_an_error_that_says_come_back(log: Log) -> None:
    await log.say(1)
    watchers = [asyncio.ensure_future(seqs(watch(log))) for _ in range(3)]
    across = asyncio.ensure_future(seqs(log.hub.watch_all(0)))
    stalled = watch(log)
    await take(stalled, 1)
    await settled(watchers[0])
    log.hub.close()

    for waiting in (*watchers, across, asyncio.ensure_future(seqs(stalled))):
        with pytest.raises(Unavailable, match="shutting down"):
            await waiting
    assert log.hub.num_subscribers == 0
    with pytest.raises(Unavailable):
        await seqs(watch(log))


async def test_a_watcher_that_leaves_is_forgotten(log: Log) -> None:
    watcher = asyncio.ensure_future(seqs(watch(log)))
    await settled(watcher)
    assert log.hub.num_subscribers == 1
    watcher.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watcher

    assert log.hub.num_subscribers == 0
    assert log.hub._wake_ups == {}


async def test_all_runs_are_watched_in_the_order_of_their_positions(log: Log) -> None:
    await log.create("r2")
    await log.say(1, "r1")
    watcher = log.hub.watch_all(0, frozenset({"log"}))
    await log.say(1, "r2")
    await log.state(RunState.RUNNING, "r1")
    await log.say(1, "r1")

    found: list[StoredEvent] = []
    while len(found) < 3:
        found += await anext(watcher)

    assert [(e.run_id, e.seq) for e in found] == [("r1", 1), ("r2", 1), ("r1", 3)]


async def test_watching_all_resumes_after_a_position(log: Log) -> None:
    await log.say(3)
    first, second, third = await log.store.events("r1", 0, 10**6)
    watcher = log.hub.watch_all(first.position)

    assert tuple(await anext(watcher)) == (second, third)
    rest = asyncio.ensure_future(anext(watcher))
    await log.say(1)
    assert [event.seq for event in await rest] == [4]


async def test_watching_all_ignores_other_kinds_and_beats_when_idle(log: Log) -> None:
    await log.say(2)
    log.hub = Hub(log.store, heartbeat_s=0.0, min_pause_s=0.0)
    watcher = log.hub.watch_all(0, frozenset({"state"}))

    assert list(await anext(watcher)) == []
    await log.state(RunState.COMPLETED)
    while not (batch := await anext(watcher)):
        pass
    assert [event.seq for event in batch] == [3]


async def test_many_watchers_get_larger_batches_less_often(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def no_sleep(delay_s: float) -> None:
        pauses.append(delay_s)

    monkeypatch.setattr(hub, "STALL_S", 0.0)
    log.hub = Hub(log.store)
    await log.say(1)
    stalled = [watch(log) for _ in range(30)]
    for watcher in stalled:
        await take(watcher, 1)
    waiting = [asyncio.ensure_future(anext(watch(log, after_seq=1))) for _ in range(49)]
    await settled(waiting[0])
    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    reader = watch(log)
    await take(reader, 1)
    waiting.append(asyncio.ensure_future(anext(reader)))
    await asyncio.wait(waiting, timeout=0)

    assert pauses == [50 / hub.DELIVERIES_PER_S]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
