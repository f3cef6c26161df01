"""Runs' histories and what their logs have beyond them, kept for those who ask again: a page that watches does each second."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lab_rpc.metric_names import matcher
from lab_server.store.protocol import History, Store, StoredEvent

if TYPE_CHECKING:
    from lab_server.watch.series import MetricFold, Tail

    Key = tuple[str, tuple[str, ...]]

_KINDS: Final = frozenset({"metrics", "truncate"})
_READ_BYTES: Final = 1 << 20
_MAX_POINTS: Final = 2_000_000
"""About so many points are kept, of 16 bytes each."""

_CHUNK_POINTS: Final = 8
"""A chunk's row takes as much memory as so many points."""

_MAX_HEARD_BYTES: Final = 1 << 20
"""Of one run; who has not asked for so long reads the log from the store."""

_FRESH_S: Final = 30.0
"""So long a history is not read again: what was folded since is in the log, too."""


@dataclass(slots=True)
class _Kept:
    """What was read of a run, for some names.

    Attributes:
        history: as it was at some time.
        fold: the log after it.
        seq: how far that goes.
        read_s: when the history was read.
        heard: what was published since, without a gap, and is not in the fold yet.
        heard_seq: how far that goes; it is not listened to what comes after a gap.
        lock: of who reads on.
    """

    history: History
    fold: MetricFold
    seq: int
    read_s: float
    heard: list[bytes] = field(default_factory=list)
    heard_seq: int = 0
    heard_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def listen_after(self, seq: int) -> None:
        self.heard, self.heard_seq, self.heard_bytes = [], seq, 0

    def hear(self, event: StoredEvent) -> None:
        if event.seq != self.heard_seq + 1:
            return
        if event.kind in _KINDS:
            if self.heard_bytes > _MAX_HEARD_BYTES:
                return
            self.heard.append(event.payload)
            self.heard_bytes += len(event.payload)
        self.heard_seq = event.seq

    def fold_heard(self) -> None:
        self.fold.add(self.heard)
        self.seq = self.heard_seq
        self.listen_after(self.seq)


class Tails:
    """Reads them, and reads on from where it was. Used by the event loop's thread only."""

    def __init__(self, max_points: int = _MAX_POINTS) -> None:
        self._max_points = max_points
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._of_run: dict[str, dict[Key, _Kept]] = {}

    def note(self, events: Sequence[StoredEvent]) -> None:
        """Take note of events that were published: they need not be read from the store."""
        for event in events:
            for kept in self._of_run.get(event.run_id, {}).values():
                kept.hear(event)

    async def read(
        self,
        store: Store,
        last_seqs: Mapping[str, int],
        names: Sequence[str],
        *,
        is_anew: bool = False,
    ) -> dict[str, tuple[History, Tail]]:
        """Return each run's history, and what its log has beyond it of the metrics of some names.

        Args:
            store: that has the runs.
            last_seqs: by the runs' ids, how far their logs are wanted at least.
            names: of the metrics, with * and ? as wildcards.
            is_anew: whether histories that are kept are read again: they turned out to be old.
        """
        keys = {run_id: (run_id, tuple(names)) for run_id in last_seqs}
        now_s = asyncio.get_running_loop().time()
        known = {}
        for run_id, key in keys.items():
            kept = self._kept.get(key)
            if kept is not None and not is_anew and now_s - kept.read_s < _FRESH_S:
                known[run_id] = kept
        if len(known) < len(keys):
            unknown = tuple(run_id for run_id in keys if run_id not in known)
            histories = await store.histories(unknown, matcher(names))
            for run_id in unknown:
                known[run_id] = self._renewed(keys[run_id], histories[run_id], now_s)
        found = {
            run_id: await _read_on(store, keys[run_id], kept, last_seqs[run_id])
            for run_id, kept in known.items()
        }
        self._drop_oldest()
        return found

    def _renewed(self, key: Key, history: History, now_s: float) -> _Kept:
        kept = self._kept.get(key)
        if kept is None or kept.history.last_seq != history.last_seq:
            kept = _Kept(history, new_fold(matcher(key[1])), history.last_seq, now_s)
            kept.listen_after(kept.seq)
        kept.history, kept.read_s = history, now_s
        self._kept[key] = kept
        self._of_run.setdefault(key[0], {})[key] = kept
        self._kept.move_to_end(key)
        return kept

    def _drop_oldest(self) -> None:
        sizes = {
            key: kept.fold.num_points + _CHUNK_POINTS * (1 + len(kept.history.chunks))
            for key, kept in self._kept.items()
        }
        num = sum(sizes.values())
        while num > self._max_points:
            key, _ = self._kept.popitem(last=False)
            of_run = self._of_run[key[0]]
            del of_run[key]
            if not of_run:
                del self._of_run[key[0]]
            num -= sizes[key]


async def _read_on(store: Store, key: Key, kept: _Kept, last_seq: int) -> tuple[History, Tail]:
    run_id, names = key
    # held also while the tail is made: a thread may add to the fold for somebody else
    async with kept.lock:
        if kept.heard_seq > kept.seq:
            kept.fold_heard()
        if kept.seq < last_seq:
            kept.listen_after(last_seq)
            try:
                await read_on(store, run_id, kept.fold, kept.seq, last_seq)
            except BaseException:
                # a thread may still add to the one that was
                kept.fold, kept.seq = new_fold(matcher(names)), kept.history.last_seq
                kept.listen_after(kept.seq)
                raise
            kept.seq = last_seq
        return kept.history, kept.fold.tail()


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
