"""Watches run logs for any number of subscribers, each of which is only a cursor.

A subscriber reads on from its cursor, from the newest events in memory or else from the store, and
waits for the next wake-up. A stalled one has no queue that fills: it costs nothing, and slows nobody.
All of it lives in the event loop's thread; the hub owns the tails and the wake-ups.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from lab_server.errors import Unavailable
from lab_server.store.protocol import Store, StoredEvent

BATCH_BYTES: Final = 256 << 10
"""About the size of what one step of an iterator gives."""

TAIL_BYTES: Final = 1 << 20
MAX_TAILS: Final = 64

MIN_PAUSE_S: Final = 0.02
MAX_PAUSE_S: Final = 1.0
DELIVERIES_PER_S: Final = 100.0
"""All subscribers together get so many batches: many get larger ones, not more of the CPU."""

STALL_S: Final = 2.0
"""A subscriber that has not taken its next batch for so long does not count."""

_ALL: Final = ""


class Hub:
    """The live side of the event log.

    Args:
        store: where events are once they are published.
        min_pause_s: the least time between two batches of a subscriber.
    """

    def __init__(self, store: Store, *, min_pause_s: float = MIN_PAUSE_S) -> None:
        self._store = store
        self._min_pause_s = min_pause_s
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._wake_ups: dict[str, asyncio.Future[None]] = {}
        self._subscribers: Counter[str] = Counter()
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
        return self._subscribers.total()

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
        self._wake(run_id)

    def close(self) -> None:
        """End all iterators with Unavailable."""
        self._is_closed = True
        for key in list(self._wake_ups):
            self._wake(key)

    async def watch(
        self, run_id: str, after_seq: int, heartbeat_s: float = 15.0
    ) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield the events of a run in batches, history first, up to its terminal state.

        An empty batch is a heartbeat. The iterator ends when it has given the event of the terminal
        state, at once if `after_seq` is that event's; after a resume the run goes on, and so does it.

        Raises:
            NotFound: If there is no such run, or it is deleted meanwhile.
            Unavailable: If the server stops.
        """
        with self._subscription(run_id):
            cursor = after_seq
            read = self._store_events
            is_end_possible = True
            await self._store.get(run_id)
            while True:
                # taken before reading: what is published from here on wakes us
                wake_up = self._wake_up(run_id)
                events = await read(run_id, cursor)
                read = self._events
                if events:
                    with self._handing_over():
                        yield events
                    cursor = events[-1].seq
                    is_end_possible = events[-1].kind == "state"
                    await self._pause(events)
                    continue
                if is_end_possible:
                    run = await self._store.get(run_id)
                    if run.last_seq > cursor:
                        # committed and not published yet
                        read = self._store_events
                        continue
                    if run.state.is_terminal:
                        return
                if not await _is_done(wake_up, heartbeat_s):
                    with self._handing_over():
                        yield ()
                is_end_possible = True

    async def watch_all(
        self,
        after_position: int,
        kinds: frozenset[str] = frozenset(),
        heartbeat_s: float = 15.0,
    ) -> AsyncIterator[Sequence[StoredEvent]]:
        """Yield the events of all runs in batches, in the order of their positions, without end.

        An empty batch is a heartbeat.

        Raises:
            Unavailable: If the server stops.
        """
        with self._subscription(_ALL):
            cursor = after_position
            while True:
                wake_up = self._wake_up(_ALL)
                events = await self._store.events_across(cursor, BATCH_BYTES, kinds)
                if events:
                    with self._handing_over():
                        yield events
                    cursor = events[-1].position
                elif not await _is_done(wake_up, heartbeat_s):
                    with self._handing_over():
                        yield ()
                # also when it was woken for events of other kinds
                await self._pause(events)

    @contextlib.contextmanager
    def _subscription(self, key: str) -> Iterator[None]:
        self._subscribers[key] += 1
        try:
            yield
        finally:
            self._subscribers[key] -= 1
            if not self._subscribers[key]:
                del self._subscribers[key]
                self._wake_ups.pop(key, None)

    @contextlib.contextmanager
    def _handing_over(self) -> Iterator[None]:
        """Note the time for which a subscriber has its batch: long when it has stalled."""
        key = object()
        self._handed_over[key] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._handed_over[key]

    def _num_stalled(self) -> int:
        since = asyncio.get_running_loop().time() - STALL_S
        return sum(time <= since for time in self._handed_over.values())

    def _tail_of(self, run_id: str) -> _Tail:
        tail = self._tails.get(run_id)
        if tail is None:
            tail = self._tails[run_id] = _Tail()
            if len(self._tails) > MAX_TAILS:
                self._tails.popitem(last=False)
        else:
            self._tails.move_to_end(run_id)
        return tail

    async def _events(self, run_id: str, after_seq: int) -> Sequence[StoredEvent]:
        tail = self._tails.get(run_id)
        found = tail.after(after_seq) if tail is not None else None
        if found is not None:
            return found
        return await self._store_events(run_id, after_seq)

    async def _store_events(self, run_id: str, after_seq: int) -> Sequence[StoredEvent]:
        return await self._store.events(run_id, after_seq, BATCH_BYTES)

    def _wake_up(self, key: str) -> asyncio.Future[None]:
        self._check_open()
        wake_up = self._wake_ups.get(key)
        if wake_up is None:
            wake_up = self._wake_ups[key] = asyncio.get_running_loop().create_future()
        return wake_up

    def _wake(self, key: str) -> None:
        wake_up = self._wake_ups.pop(key, None)
        if wake_up is not None:
            wake_up.set_result(None)

    async def _pause(self, events: Sequence[StoredEvent]) -> None:
        """Wait for more events before the next batch: the more subscribers, the longer."""
        self._check_open()
        is_full = sum(len(event.payload) for event in events) > BATCH_BYTES // 2
        if self._min_pause_s and not is_full:
            share_s = (self.num_subscribers - self._num_stalled()) / DELIVERIES_PER_S
            await asyncio.sleep(min(max(self._min_pause_s, share_s), MAX_PAUSE_S))

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("the server is shutting down; watch again when it is back")


class _Tail:
    """The newest events of a run, without a gap in seq, of bounded size."""

    def __init__(self) -> None:
        self._events: list[StoredEvent] = []
        self._num_bytes = 0

    def append(self, event: StoredEvent) -> None:
        events = self._events
        if events and event.seq != events[-1].seq + 1:
            if event.seq <= events[-1].seq:
                return
            events.clear()
            self._num_bytes = 0
        events.append(event)
        self._num_bytes += len(event.payload)
        if self._num_bytes > TAIL_BYTES:
            # by halves, so that the list is not moved at every event
            half = len(events) // 2
            self._num_bytes -= sum(len(event.payload) for event in events[:half])
            del events[:half]

    def after(self, seq: int) -> tuple[StoredEvent, ...] | None:
        """Return a batch of events with a larger seq; None when the tail does not reach back so far."""
        events = self._events
        if not events or seq + 1 < events[0].seq or seq > events[-1].seq:
            return None
        found: list[StoredEvent] = []
        num_bytes = 0
        for index in range(seq + 1 - events[0].seq, len(events)):
            num_bytes += len(events[index].payload)
            if found and num_bytes > BATCH_BYTES:
                break
            found.append(events[index])
        return tuple(found)


async def _is_done(wake_up: asyncio.Future[None], timeout_s: float) -> bool:
    done, _ = await asyncio.wait((wake_up,), timeout=timeout_s)
    return bool(done)
