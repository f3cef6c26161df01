"""What a run tracked beside metrics, by name and step: from its log, kept for those who ask again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.store.protocol import Store
from lab_server.watch.media import query_media

_MAX_RUNS: Final = 100
_TRUNCATE: Final = frozenset({"truncate"})
_MEDIA: Final = frozenset({"media"})


@dataclass(frozen=True, slots=True)
class Tracked:
    """Something that a run tracked.

    Attributes:
        kind: "image", "text", "histogram" or "indexed".
        index: of a picture, which of its name and step it is.
        after_seq: the log has it soon after this event.
    """

    name: str
    step: int
    kind: str
    index: int
    after_seq: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What a log has: its media up to one seq, of which later truncates up to another took nothing back."""

    media_seq: int = 0
    checked_seq: int = 0
    items: Sequence[Tracked] = ()


class MediaIndex:
    """Knows what runs tracked. Used by the event loop's thread only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: OrderedDict[str, _Found] = OrderedDict()

    async def has_any(self, run_id: str) -> bool:
        """Whether a run ever tracked something."""
        return bool(await self._store.events(run_id, 0, 1, _MEDIA))

    async def of(self, run_id: str, last_seq: int) -> Sequence[Tracked]:
        """Return what counts of what a run's log has up to a seq at least, in its order."""
        known = self._found.get(run_id, _Found())
        if await self._store.events(run_id, known.checked_seq, 1, _TRUNCATE):
            known = _Found()  # some of it counts no more
        seq, items = known.media_seq, list(known.items)
        while True:
            page = await query_media(self._store, run_id, lambda _: True, seq)
            items += [_tracked(item, seq) for item in page.items]
            if page.next_seq is None:
                break
            seq = page.next_seq
        self._found[run_id] = _Found(seq, max(seq, last_seq), items)
        self._found.move_to_end(run_id)
        if len(self._found) > _MAX_RUNS:
            self._found.popitem(last=False)
        return items

    async def read(self, run_id: str, wanted: Iterable[Tracked]) -> list[event_pb2.MediaItem]:
        """Return some of what `of` gave with its content; without what counts no more."""
        found: list[event_pb2.MediaItem] = []
        by_place: dict[int, set[tuple[str, int, int]]] = {}
        for item in wanted:
            by_place.setdefault(item.after_seq, set()).add((item.name, item.step, item.index))
        for after_seq, keys in sorted(by_place.items()):
            is_wanted = _is_one_of(keys)
            found += (await query_media(self._store, run_id, is_wanted, after_seq)).items
        return found


def _is_one_of(keys: set[tuple[str, int, int]]) -> Callable[[event_pb2.MediaItem], bool]:
    return lambda item: (item.name, item.step, item.image.index) in keys


def _tracked(item: event_pb2.MediaItem, after_seq: int) -> Tracked:
    kind = item.WhichOneof("content") or ""
    return Tracked(item.name, item.step, kind, item.image.index, after_seq)
