"""Stretches of logs in memory, so that subscribers that read the same share it.

Events never change, so a stretch is right for as long as its run is there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from lab_server.store.protocol import Store, StoredEvent

TAIL_BYTES: Final = 1 << 20
READ_BYTES: Final = 64 << 10
"""About so much is read from the store at once, for all who want a part of it."""

CACHE_BYTES: Final = 6 << 20


class Stretch:
    """Events of a run, without a gap in seq.

    Attributes:
        events: in the order of their seq.
        last_seq: that of the last one, 0 without any.
        num_bytes: of all of them.
    """

    def __init__(self, events: Sequence[StoredEvent] = ()) -> None:
        self.events = list(events)
        self.last_seq = events[-1].seq if events else 0
        self.num_bytes = sum(len(event.payload) for event in events)

    def after(self, seq: int, max_bytes: int) -> tuple[StoredEvent, ...] | None:
        """Return events with a larger seq, one at least if there is one, up to so many bytes.

        None when the stretch does not begin so early, or ends earlier.
        """
        events = self.events
        if not events or seq + 1 < events[0].seq or seq > self.last_seq:
            return None
        found: list[StoredEvent] = []
        num_bytes = 0
        for index in range(seq + 1 - events[0].seq, len(events)):
            num_bytes += len(events[index].payload)
            if found and num_bytes > max_bytes:
                break
            found.append(events[index])
        return tuple(found)


class Tail(Stretch):
    """The newest events of a run, of bounded size."""

    def append(self, event: StoredEvent) -> None:
        """Add an event that was published; one that is there already is passed over."""
        events = self.events
        if events and event.seq != events[-1].seq + 1:
            if event.seq <= events[-1].seq:
                return
            events.clear()
            self.num_bytes = 0
        events.append(event)
        self.last_seq = event.seq
        self.num_bytes += len(event.payload)
        if self.num_bytes > TAIL_BYTES:
            # by halves, so that the list is not moved at every event
            half = len(events) // 2
            self.num_bytes -= sum(len(event.payload) for event in events[:half])
            del events[:half]


class LogCache:
    """Reads logs from the store, each stretch once for all who read it about the same time.

    Used by the event loop's thread only.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stretches: OrderedDict[tuple[str, int], Stretch] = OrderedDict()
        self._num_bytes = 0
        self._reads: dict[tuple[str, int], asyncio.Task[Stretch]] = {}

    async def read(
        self, run_id: str, after_seq: int, max_bytes: int, least_bytes: int = READ_BYTES
    ) -> Sequence[StoredEvent]:
        """Return events of a run with a larger seq, one at least if there is one.

        Args:
            run_id: the run.
            after_seq: the events up to this one are not wanted.
            max_bytes: about so much is returned at most.
            least_bytes: at least about so much is read, if there is so much, for those who come after.
        """
        for key, stretch in self._stretches.items():
            of_run, begin = key
            if begin <= after_seq < stretch.last_seq and of_run == run_id:
                self._stretches.move_to_end(key)
                return stretch.after(after_seq, max_bytes) or ()
        key = run_id, after_seq
        read = self._reads.get(key)
        if read is None:
            num_bytes = max(max_bytes, least_bytes)
            read = self._reads[key] = asyncio.create_task(self._read(key, num_bytes))
            # all who wait for it may have left when it fails
            read.add_done_callback(lambda done: done.cancelled() or done.exception())
        # the others go on when this one's subscriber leaves
        return (await asyncio.shield(read)).after(after_seq, max_bytes) or ()

    def forget(self, run_id: str) -> None:
        """Drop the stretches of a run that was deleted."""
        for key in [key for key in self._stretches if key[0] == run_id]:
            self._num_bytes -= self._stretches.pop(key).num_bytes

    def clear(self) -> None:
        """Drop all stretches."""
        self._stretches.clear()
        self._num_bytes = 0

    async def _read(self, key: tuple[str, int], num_bytes: int) -> Stretch:
        try:
            stretch = Stretch(await self._store.events(*key, num_bytes))
        finally:
            del self._reads[key]
        # one at the log's end is soon one of many, and would push out those that are wanted again
        if stretch.num_bytes > READ_BYTES // 2:
            self._stretches[key] = stretch
            self._num_bytes += stretch.num_bytes
            while self._num_bytes > CACHE_BYTES:
                self._num_bytes -= self._stretches.popitem(last=False)[1].num_bytes
        return stretch
