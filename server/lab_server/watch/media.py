"""Answers QueryMedia: images, texts, histograms and indexed values, read from a run's events."""

from __future__ import annotations

import math
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
    truncates = await _truncates(store, run_id, found[0].seq)
    items = [item for item in _valid(found, truncates) if is_wanted(item)]
    return MediaPage(items, found[-1].seq)


async def _truncates(store: Store, run_id: str, after_seq: int) -> list[tuple[int, int]]:
    """Return the truncates after an event: their seqs, and the last step that counts."""
    truncates: list[tuple[int, int]] = []
    seq = after_seq
    while events := await store.events(run_id, seq, _READ_BYTES, _TRUNCATE):
        truncates += [(e.seq, decode(e.payload).truncate.after_step) for e in events]
        seq = events[-1].seq
    return truncates


def _valid(
    found: Sequence[StoredEvent], truncates: Sequence[tuple[int, int]]
) -> Iterator[event_pb2.MediaItem]:
    for event in found:
        last_step = min((after for seq, after in truncates if seq > event.seq), default=math.inf)
        yield from (item for item in decode(event.payload).media.items if item.step <= last_step)
