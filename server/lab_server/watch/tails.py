"""What runs' logs have beyond their histories, kept for those who ask again: a page that watches does each second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lab_rpc.metric_names import matcher
from lab_server.store.protocol import Store

if TYPE_CHECKING:
    from lab_server.watch.series import MetricFold, Tail

_KINDS: Final = frozenset({"metrics", "truncate"})
_READ_BYTES: Final = 1 << 20
_MAX_POINTS: Final = 2_000_000
"""About so many points are kept, of 16 bytes each."""


@dataclass(slots=True)
class _Kept:
    """What was read of a log.

    Attributes:
        after_seq: where that begins, the end of the history.
        seq: how far it goes.
        lock: of who reads on.
    """

    after_seq: int
    fold: MetricFold
    seq: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tails:
    """Reads them, and reads on from where it was. Used by the event loop's thread only."""

    def __init__(self, max_points: int = _MAX_POINTS) -> None:
        self._max_points = max_points
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], _Kept] = OrderedDict()

    async def of(
        self, store: Store, run_id: str, names: Sequence[str], after_seq: int, last_seq: int
    ) -> Tail:
        """Return what a log has between two seqs of the metrics of some names, or more that came later."""
        key = run_id, tuple(names)
        kept = self._kept.get(key)
        if kept is None or kept.after_seq != after_seq:
            kept = _Kept(after_seq, new_fold(matcher(names)), after_seq)
        async with kept.lock:
            if kept.seq < last_seq:
                await read_on(store, run_id, kept.fold, kept.seq, last_seq)
                kept.seq = last_seq
                self._keep(key, kept)
            return kept.fold.tail()

    def _keep(self, key: tuple[str, tuple[str, ...]], kept: _Kept) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        num = sum(each.fold.num_points for each in self._kept.values())
        while num > self._max_points:
            _, least = self._kept.popitem(last=False)
            num -= least.fold.num_points


def new_fold(is_wanted: Callable[[str], bool] = lambda _: True) -> MetricFold:
    """Return an empty fold."""
    # numpy costs 0.1 s of the server's start
    from lab_server.watch.series import MetricFold

    return MetricFold(is_wanted)


async def read_on(
    store: Store, run_id: str, fold: MetricFold, after_seq: int, last_seq: int
) -> None:
    """Add a log's events from one seq to another to a fold."""
    seq = after_seq
    while seq < last_seq:
        events = await store.events(run_id, seq, _READ_BYTES, _KINDS)
        payloads = [event.payload for event in events if event.seq <= last_seq]
        if payloads:
            await asyncio.to_thread(fold.add, payloads)
        seq = events[-1].seq if events else last_seq
