"""Answers QueryMedia: images, texts, histograms and indexed values, read from a run's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.messages.events import decode
from lab_server.store import Store, StoredEvent

_MEDIA: Final = frozenset({"media"})
_TRUNCATE: Final = frozenset({"truncate"})
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MediaPage:
    """Some of what a run tracked.

    Attributes:
        items: in the order of the log.
        next_seq: read on after this event; None at the end.
    """

    items: list[event_pb2.MediaItem]
    next_seq: int | None


async def query_media(
    store: Store,
    run_id: str,
    is_wanted: Callable[[event_pb2.MediaItem], bool],
    after_seq: int = 0,
    max_bytes: int = _READ_BYTES,
) -> MediaPage:
    """Return what a run tracked, without what a resume took back.

    Args:
        store: that has the run's events.
        run_id: whose.
        is_wanted: tells which items.
        after_seq: read the events after this one.
        max_bytes: read about so many at most.
    """
    found = await store.events(run_id, after_seq, max_bytes, _MEDIA)
    if not found:
        return MediaPage([], None)
    cuts = await _cuts(store, run_id, found[0].seq)
    items = [item for item in _valid(found, cuts) if is_wanted(item)]
    return MediaPage(items, found[-1].seq)


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a resume took back of the events before it.

    Metrics of the checkpoint's own step are sent again where they count; what is no number is not, and
    counts unless it was tracked again.
    """

    seq: int
    last_step: int
    checkpoint_step: int
    again: frozenset[tuple[str, int]]

    def keeps(self, item: event_pb2.MediaItem) -> bool:
        if item.step <= self.last_step:
            return True
        return item.step <= self.checkpoint_step and (item.name, item.step) not in self.again


async def _cuts(store: Store, run_id: str, after_seq: int) -> list[_Cut]:
    """Return what the truncates after an event took back."""
    cuts: list[_Cut] = []
    seq = after_seq
    while events := await store.events(run_id, seq, _READ_BYTES, _TRUNCATE):
        cuts += [await _cut(store, run_id, event) for event in events]
        seq = events[-1].seq
    return cuts


async def _cut(store: Store, run_id: str, event: StoredEvent) -> _Cut:
    truncate = decode(event.payload).truncate
    # where a run began anew, that of the run it was forked from
    is_own = truncate.HasField("checkpoint_step") and truncate.after_step >= 0
    last, checkpoint = truncate.after_step, truncate.checkpoint_step if is_own else -1
    again: frozenset[tuple[str, int]] = frozenset()
    if checkpoint > last:  # the first events after it have what was tracked again at these steps
        found = await store.events(run_id, event.seq, _READ_BYTES, _MEDIA)
        media = (item for later in found for item in decode(later.payload).media.items)
        again = frozenset((item.name, item.step) for item in media if item.step <= checkpoint)
    return _Cut(event.seq, last, checkpoint, again)


def _valid(found: Sequence[StoredEvent], cuts: Sequence[_Cut]) -> Iterator[event_pb2.MediaItem]:
    for event in found:
        later = [cut for cut in cuts if cut.seq > event.seq]
        for item in decode(event.payload).media.items:
            if all(cut.keeps(item) for cut in later):
                yield item
