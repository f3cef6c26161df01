"""Who reads the same of a log shares it, and what is kept of it is bounded."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest

from lab_server.errors import StoreError
from lab_server.store import StoredEvent
from lab_server.watch import log_cache
from lab_server.watch.log_cache import LogCache, Stretch, Tail

EVENT_BYTES = 1000


class Reads:
    """A store that has 10,000 events of every run, and counts what is read."""

    def __init__(self) -> None:
        self.after: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def events(self, run_id: str, after_seq: int, max_bytes: int) -> Sequence[StoredEvent]:
        self.after.append((run_id, after_seq))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        last = min(10_000, after_seq + max_bytes // EVENT_BYTES)
        seqs = range(after_seq + 1, last + 1)
        return tuple(StoredEvent(s, run_id, s, "log", bytes(EVENT_BYTES)) for s in seqs)


@pytest.fixture
def store() -> Reads:
    return Reads()


@pytest.fixture
def cache(store: Any) -> LogCache:
    return LogCache(store)


async def seqs(cache: LogCache, after_seq: int, num: int = 10, run_id: str = "r") -> list[int]:
    return [e.seq for e in await cache.read(run_id, after_seq, num * EVENT_BYTES)]


async def test_readers_that_follow_each_other_share_a_stretch(
    store: Reads, cache: LogCache
) -> None:
    assert await seqs(cache, 0) == list(range(1, 11))
    assert await seqs(cache, 10) == list(range(11, 21))
    assert await seqs(cache, 3, 2) == [4, 5]
    assert store.after == [("r", 0)]


async def test_readers_at_the_same_time_share_a_read(store: Reads, cache: LogCache) -> None:
    found = await asyncio.gather(*(seqs(cache, 7) for _ in range(50)))
    assert found == [list(range(8, 18))] * 50
    assert store.after == [("r", 7)]


async def test_runs_are_kept_apart_and_forgotten_apart(store: Reads, cache: LogCache) -> None:
    for run_id in ("a", "b", "c"):
        await seqs(cache, 0, run_id=run_id)
    cache.forget("b")
    for run_id in ("a", "b", "c"):
        await seqs(cache, 0, run_id=run_id)
    assert store.after == [("a", 0), ("b", 0), ("c", 0), ("b", 0)]
    assert cache._num_bytes == sum(stretch.num_bytes for stretch in cache._stretches.values())
    cache.clear()
    await seqs(cache, 0, run_id="b")
    assert store.after[-1] == ("b", 0)
    assert cache._num_bytes == cache._stretches["b", 0].num_bytes


async def test_a_run_is_known_by_its_id(store: Reads, cache: LogCache) -> None:
    same_id = "".join(["ru", "n"])  # another object
    for run_id in ("run", same_id):
        await seqs(cache, 0, run_id=run_id)
    assert store.after == [("run", 0)]
    cache.forget(same_id)
    assert not cache._stretches


async def test_a_reader_of_larger_batches_gets_them(store: Reads, cache: LogCache) -> None:
    assert await seqs(cache, 0, 500) == list(range(1, 501))
    assert store.after == [("r", 0)]


async def test_the_stretch_that_was_read_longest_ago_goes_first(
    store: Reads, cache: LogCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "CACHE_BYTES", 2 * 65 * EVENT_BYTES)  # what two reads give
    for run_id in ("a", "b", "a", "c"):
        await seqs(cache, 0, run_id=run_id)
    assert len(cache._stretches) == 2
    await seqs(cache, 0, run_id="a")
    assert store.after == [("a", 0), ("b", 0), ("c", 0)]
    await seqs(cache, 0, run_id="b")
    assert store.after[-1] == ("b", 0)


async def test_the_few_events_at_a_logs_end_push_nothing_out(store: Reads, cache: LogCache) -> None:
    assert await seqs(cache, 9_995) == [9_996, 9_997, 9_998, 9_999, 10_000]
    assert await seqs(cache, 10_000) == []
    assert await seqs(cache, 9_970, 1) == [9_971]
    assert not cache._stretches


async def test_what_is_kept_of_a_logs_end_is_more_than_half_a_read(
    cache: LogCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "READ_BYTES", 20 * EVENT_BYTES)
    await seqs(cache, 9_990)
    assert not cache._stretches
    await seqs(cache, 9_989)
    assert list(cache._stretches) == [("r", 9_989)]


def event(seq: int, num_bytes: int = EVENT_BYTES) -> StoredEvent:
    return StoredEvent(seq, "r", seq, "log", bytes(num_bytes))


def found(stretch: Stretch, after_seq: int, max_bytes: int = 10**9) -> list[int] | None:
    events = stretch.after(after_seq, max_bytes)
    return None if events is None else [e.seq for e in events]


def test_a_stretch_knows_what_lies_before_and_behind_it_to_be_elsewhere() -> None:
    stretch = Stretch([event(1003), event(1004), event(1005)])
    assert found(stretch, 1001) is None
    assert found(stretch, 1002) == [1003, 1004, 1005]
    assert found(stretch, 1004) == [1005]
    assert found(stretch, 1005) == []
    assert found(stretch, 1006) is None
    assert found(Stretch(), 0) is None


def test_a_batch_ends_before_the_first_event_that_does_not_fit() -> None:
    stretch = Stretch([event(1, 100), event(2, 100), event(3, 500), event(4, 1)])
    assert found(stretch, 0, 200) == [1, 2]
    assert found(stretch, 0, 199) == [1]
    assert found(stretch, 0, 699) == [1, 2]


def test_a_tail_begins_anew_after_a_gap() -> None:
    tail = Tail()
    for seq in (1, 2, 2, 1, 5, 6):
        tail.append(event(seq))
    assert found(tail, 0) is None
    assert found(tail, 4) == [5, 6]
    assert tail.num_bytes == 2 * EVENT_BYTES


def test_a_tail_loses_its_older_half_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cache, "TAIL_BYTES", 10 * EVENT_BYTES)
    tail = Tail()
    for seq in range(1, 11):
        tail.append(event(seq))
    assert found(tail, 0) == list(range(1, 11))
    tail.append(event(11))
    assert found(tail, 4) is None
    assert found(tail, 5) == list(range(6, 12))
    assert tail.num_bytes == 6 * EVENT_BYTES


async def test_an_event_larger_than_a_batch_comes_alone(cache: LogCache) -> None:
    assert [e.seq for e in await cache.read("r", 4, 1)] == [5]


async def test_a_reader_that_leaves_takes_nothing_from_the_others(
    store: Reads, cache: LogCache
) -> None:
    first, second = (asyncio.ensure_future(seqs(cache, 0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == list(range(1, 11))
    assert store.after == [("r", 0)]


@pytest.mark.slow
async def test_an_error_comes_to_those_who_wait_and_the_next_read_tries_again(
    store: Reads, cache: LogCache
) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    store.error = StoreError("damaged")
    found = await asyncio.gather(seqs(cache, 0), seqs(cache, 0), return_exceptions=True)
    assert all(error is store.error for error in found)
    alone = asyncio.ensure_future(seqs(cache, 0))
    await asyncio.sleep(0)
    alone.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    del alone, found
    gc.collect()
    assert not problems
    store.error = None
    assert await seqs(cache, 0, 1) == [1]
