"""Watches run logs for any number of subscribers, each of which is only a cursor.

A subscriber reads on from its cursor, from the newest events in memory or else from the store, and
waits for the next wake-up. A stalled one has no queue that fills: it costs its one batch, which is the
smaller the more subscribers there are, and slows nobody.
All of it lives in the event loop's thread; the hub owns the tails and the wake-ups.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from lab_server.errors import Unavailable
from lab_server.store.protocol import Store, StoredEvent
from lab_server.watch.log_cache import LogCache, Tail

BATCH_BYTES: Final = 256 << 10
"""About the largest size of what one step of an iterator gives."""

FIRST_BATCH_BYTES: Final = 16 << 10
"""About the largest size of the first batch: a subscriber begins with it while the next is read."""

MIN_BATCH_BYTES: Final = 16 << 10
BATCHES_BYTES: Final = 8 << 20
"""About the size of all subscribers' batches together, as long as none is below the least size."""

MAX_TAILS: Final = 64

MIN_PAUSE_S: Final = 0.02
MAX_PAUSE_S: Final = 1.0
DELIVERIES_PER_S: Final = 100.0
"""All subscribers together get so many batches: many get larger ones, not more of the CPU."""

HEARTBEAT_S: Final = 15.0

STALL_S: Final = 2.0
"""A subscriber that has not taken its next batch for so long does not count."""

_ALL: Final = ""


class Hub:
    """The live side of the event log.

    Args:
        store: where events are once they are published.
        heartbeat_s: the time between two heartbeats of an idle subscriber.
        min_pause_s: the least time between two batches of a subscriber.
    """

    def __init__(
        self, store: Store, *, heartbeat_s: float = HEARTBEAT_S, min_pause_s: float = MIN_PAUSE_S
    ) -> None:
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._min_pause_s = min_pause_s
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._log_cache = LogCache(store)
        # one a subscriber; with whether it is for events, or for a heartbeat
        self._wake_ups: dict[str, set[asyncio.Future[bool]]] = {}
        # one a key, not one a subscriber: a timer that was cancelled stays in memory until it is due
        self._heartbeats: dict[str, asyncio.TimerHandle] = {}
        self._subscribers: Counter[str] = Counter()
        self._num_subscribers = 0
        # when each subscriber that now has a batch got it
        self._handed_over: dict[object, float] = {}
        self._observers: list[Callable[[Sequence[StoredEvent]], None]] = []
        self._is_closed = False

    def observe(self, observer: Callable[[Sequence[StoredEvent]], None]) -> None:
        """Tell an observer of all events of all runs, as they are published."""
        self._observers.append(observer)

    @property
    def num_subscribers(self) -> int:
        """How many iterators are open."""
        return self._num_subscribers

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Wake subscribers for events that the store has, in the order of a run's seq."""
        run_ids = {event.run_id for event in events}
        for event in events:
            self._tail_of(event.run_id).append(event)
        for run_id in (*run_ids, _ALL):
            self._wake(run_id)
        for observer in self._observers:
            observer(events)

    def forget(self, run_id: str) -> None:
        """Wake subscribers of a run that was deleted: their iterators raise NotFound."""
        self._tails.pop(run_id, None)
        self._log_cache.forget(run_id)
        self._wake(run_id)

    def drop_caches(self) -> None:
        """Forget the events in memory; who wants them reads them from the store."""
        self._tails.clear()
        self._log_cache.clear()

    def close(self) -> None:
        """End all iterators with Unavailable."""
        self._is_closed = True
        for key in list(self._wake_ups):
            self._wake(key)

    async def watch(self, run_id: str, after_seq: int) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield the events of a run in batches, history first, up to its terminal state.

        An empty batch is a heartbeat. The iterator ends when it has given the event of the terminal
        state, at once if `after_seq` is that event's; after a resume the run goes on, and so does it.

        Raises:
            NotFound: If there is no such run, or it is deleted meanwhile.
            Unavailable: If the server stops.
        """
        with self._subscription(run_id):
            cursor, resumes_at = after_seq, 0.0
            read = self._first_events
            is_end_possible = True
            wake_up: asyncio.Future[bool] | None = None
            await self._store.get(run_id)
            while True:
                # taken before reading: what is published from here on wakes us
                wake_up = self._wake_up(run_id, wake_up)
                events = await read(run_id, cursor)
                is_first, read = read == self._first_events, self._events
                if events and (pause_s := resumes_at - self._now()) > 0:
                    await asyncio.sleep(pause_s)  # there will be more of them
                    continue
                if events:
                    cursor = events[-1].seq
                    is_end_possible = events[-1].kind == "state"
                    num_bytes = _num_bytes(events)
                    # a stalled subscriber may let go of the batch: it is not kept here
                    given = [events]
                    del events
                    with self._handing_over():
                        yield given.pop()
                    # the rest of a log is not waited for
                    if not (is_first and num_bytes > FIRST_BATCH_BYTES // 2):
                        resumes_at = await self._pause(num_bytes)
                    continue
                if is_end_possible:
                    run = await self._store.get(run_id)
                    if run.last_seq > cursor:
                        # committed and not published yet
                        read = self._store_events
                        continue
                    if run.state.is_terminal:
                        return
                if not await wake_up:
                    with self._handing_over():
                        yield ()
                is_end_possible = True

    async def watch_all(
        self, after_position: int, kinds: frozenset[str] = frozenset()
    ) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield the events of all runs in batches, in the order of their positions, without end.

        An empty batch is a heartbeat.

        Raises:
            Unavailable: If the server stops.
        """
        with self._subscription(_ALL):
            cursor = after_position
            wake_up: asyncio.Future[bool] | None = None
            while True:
                wake_up = self._wake_up(_ALL, wake_up)
                events = await self._store.events_across(cursor, self._batch_bytes(), kinds)
                num_bytes = _num_bytes(events)
                if events:
                    cursor = events[-1].position
                    given = [events]
                    del events
                    with self._handing_over():
                        yield given.pop()
                elif not await wake_up:
                    with self._handing_over():
                        yield ()
                # also when it was woken for events of other kinds
                resumes_at = await self._pause(num_bytes)
                await asyncio.sleep(resumes_at - self._now())

    @contextlib.contextmanager
    def _subscription(self, key: str) -> Iterator[None]:
        self._subscribers[key] += 1
        self._num_subscribers += 1
        if key not in self._heartbeats:
            self._schedule_heartbeat(key)
        try:
            yield
        finally:
            self._subscribers[key] -= 1
            self._num_subscribers -= 1
            if not self._subscribers[key]:
                del self._subscribers[key]
                self._wake_ups.pop(key, None)
                self._heartbeats.pop(key).cancel()

    def _schedule_heartbeat(self, key: str) -> None:
        loop, context = asyncio.get_running_loop(), contextvars.Context()
        self._heartbeats[key] = loop.call_later(self._heartbeat_s, self._beat, key, context=context)

    def _beat(self, key: str) -> None:
        self._schedule_heartbeat(key)
        self._wake(key, has_events=False)

    def _handing_over(self) -> _HandingOver:
        """Note the time for which a subscriber has its batch: long when it has stalled."""
        return _HandingOver(self._handed_over, self._now())

    def _num_stalled(self) -> int:
        since = self._now() - STALL_S
        return sum(time <= since for time in self._handed_over.values())

    def _batch_bytes(self) -> int:
        share = BATCHES_BYTES // max(1, self.num_subscribers)
        return min(BATCH_BYTES, max(MIN_BATCH_BYTES, share))

    def _tail_of(self, run_id: str) -> Tail:
        tail = self._tails.get(run_id)
        if tail is None:
            tail = self._tails[run_id] = Tail()
            if len(self._tails) > MAX_TAILS:
                self._tails.popitem(last=False)
        else:
            self._tails.move_to_end(run_id)
        return tail

    async def _events(self, run_id: str, after_seq: int) -> Sequence[StoredEvent]:
        tail = self._tails.get(run_id)
        found = tail.after(after_seq, self._batch_bytes()) if tail is not None else None
        if found is not None:
            return found
        return await self._store_events(run_id, after_seq)

    async def _first_events(self, run_id: str, after_seq: int) -> Sequence[StoredEvent]:
        return await self._log_cache.read(run_id, after_seq, FIRST_BATCH_BYTES, least_bytes=0)

    async def _store_events(self, run_id: str, after_seq: int) -> Sequence[StoredEvent]:
        return await self._log_cache.read(run_id, after_seq, self._batch_bytes())

    def _wake_up(self, key: str, known: asyncio.Future[bool] | None) -> asyncio.Future[bool]:
        """Return the subscriber's next wake-up: the one that it has, unless that has come."""
        self._check_open()
        if known is not None and not known.done():
            return known
        wake_up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._wake_ups.setdefault(key, set()).add(wake_up)
        return wake_up

    def _wake(self, key: str, *, has_events: bool = True) -> None:
        for wake_up in self._wake_ups.pop(key, ()):
            if not wake_up.done():  # else its subscriber was cancelled
                wake_up.set_result(has_events)

    async def _pause(self, num_bytes: int) -> float:
        """Wait for more events before the next batch: the more subscribers, the longer.

        The least pause is left to the caller: mostly it is over before the next event comes, and then needs
        no wake-up. Returns when it ends.
        """
        self._check_open()
        is_full = num_bytes > self._batch_bytes() // 2
        if is_full or not self._min_pause_s:
            return 0.0
        share_s = (self.num_subscribers - self._num_stalled()) / DELIVERIES_PER_S
        if share_s > self._min_pause_s:
            await asyncio.sleep(min(share_s, MAX_PAUSE_S))
            return 0.0
        return self._now() + self._min_pause_s

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the server is shutting down; watch again when it is back")


class _HandingOver:
    """A context manager of few steps, as each batch has one."""

    __slots__ = ("_handed_over", "_since")

    def __init__(self, handed_over: dict[object, float], since: float) -> None:
        self._handed_over = handed_over
        self._since = since

    def __enter__(self) -> None:
        self._handed_over[self] = self._since

    def __exit__(self, *_: object) -> None:
        del self._handed_over[self]


def _num_bytes(events: Sequence[StoredEvent]) -> int:
    return sum(len(event.payload) for event in events)
