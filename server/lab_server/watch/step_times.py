"""When a run was at which step: from its log, kept for those who ask again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lab_server.messages.events import decode
from lab_server.model.run import Run
from lab_server.store.protocol import Store, StoredEvent

if TYPE_CHECKING:
    from lab_server.watch.series import Values

_KINDS: Final = frozenset({"progress", "truncate"})
_READ_BYTES: Final = 1 << 20
_MAX_RUNS: Final = 200


@dataclass(slots=True)
class _Track:
    last_seq: int = 0
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class StepTimes:
    """Knows when runs were at which of their steps, from what they told of their progress.

    Used by the event loop's thread only.
    """

    def __init__(self) -> None:
        self._tracks: OrderedDict[str, _Track] = OrderedDict()

    async def of(self, store: Store, run: Run) -> tuple[Values, Values]:
        """Return steps, ascending, and the Unix seconds at which the run was there, as its clocks had it.

        Seconds do not descend: where a clock was set back, or another machine's is behind, they stay until it
        has caught up. What a resume took back is not among them.

        Raises:
            NotFound: If there is no such run.
        """
        import numpy as np

        track = self._tracks.setdefault(run.id, _Track())
        self._tracks.move_to_end(run.id)
        while len(self._tracks) > _MAX_RUNS:
            self._tracks.popitem(last=False)
        while track.last_seq < run.last_seq:
            after = track.last_seq
            events = await store.events(run.id, after, _READ_BYTES, _KINDS)
            if track.last_seq != after:
                continue  # somebody else read on meanwhile
            _add(track, events)
            track.last_seq = events[-1].seq if events else run.last_seq
        seconds = np.maximum.accumulate(np.array(track.seconds, np.float64))
        return np.array(track.steps, np.float64), seconds


def _add(track: _Track, events: Iterable[StoredEvent]) -> None:
    for stored in events:
        event = decode(stored.payload)
        if event.WhichOneof("kind") == "truncate":
            while track.steps and track.steps[-1] > event.truncate.after_step:
                track.steps.pop()
                track.seconds.pop()
        elif not track.steps or event.progress.step > track.steps[-1]:
            track.steps.append(event.progress.step)
            track.seconds.append(event.time_unix_ns / 1e9)
        elif event.progress.step == track.steps[-1] and len(track.steps) == 1:
            track.seconds[-1] = event.time_unix_ns / 1e9  # what was set up before its first step
