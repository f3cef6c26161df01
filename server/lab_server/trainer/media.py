"""Which images, texts, histograms and indexed values of a run go to its log, so that the log stays small.

What is left out is said once a name, in the run's own log. The run's own files have all of it: sqlite.db texts,
histograms and indexed values, tensorboard/ images, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab_core import logger
from lab_core.writers.base import Batch
from lab_rpc.v1 import event_pb2
from lab_server.messages.events import EncodedEvent
from lab_server.messages.media import Point, encode_items, items_of
from lab_server.model.media import MediaLimits

_THIN: Final = (
    "{name!r} is tracked often: from step {step} on, the run's events have fewer and fewer of it (its "
    "writers keep all); lab-server serve --media-items takes more"
)
_FULL: Final = (
    "the run's events have {mb:.0f} MB of images, texts, histograms and indexed values, and take no more from step "
    "{step} on (its writers keep all); lab-server serve --media-mb takes more"
)
_CUT: Final = "{name!r} at step {step} is larger than an event may be, and is cut there; its writers have all of it"

_FAILED: Final = "{name!r} at step {step} cannot be put into the run's events: {error}"


@dataclass(slots=True)
class _Count:
    num_seen: int = 0
    last_taken: int = 0


class MediaFilter:
    """Chooses, by how many there were and not by the clock: equal runs have equal logs.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._counts: dict[str, _Count] = {}
        self._num_bytes = 0
        self._told: set[str] = set()

    def events(self, attempt: int, time_ns: int, batch: Batch) -> list[EncodedEvent]:
        """Return the events of what of a batch is chosen."""
        points: list[Point] = [*batch.images, *batch.texts, *batch.histograms, *batch.indexed]
        items: list[event_pb2.MediaItem] = []
        for point in points:
            if not self._limits.max_bytes or not self._is_next(point):
                continue
            try:
                items += self._within_limit(point)
            except Exception as error:  # metrics of the same batch must not be lost with it
                self._tell(f"failed {point.name}", _FAILED, point, error)
        return encode_items(attempt, time_ns, items)

    def _is_next(self, point: Point) -> bool:
        """Count a point; tell whether the gap since the last one of its name is large enough."""
        count = self._counts.setdefault(point.name, _Count())
        count.num_seen += 1
        gap = -(-count.num_seen // self._limits.dense_items)
        if count.num_seen - count.last_taken < gap:
            self._tell(f"thin {point.name}", _THIN, point)
            return False
        count.last_taken = count.num_seen
        return True

    def _within_limit(self, point: Point) -> list[event_pb2.MediaItem]:
        if "" in self._told:
            return []  # full
        items = items_of(point)
        size = sum(item.ByteSize() for item in items)
        if self._num_bytes + size > self._limits.max_bytes:
            self._tell("", _FULL, point)
            return []
        self._num_bytes += size
        if any(item.is_cut for item in items):
            self._tell(f"cut {point.name}", _CUT, point)
        return items

    def _tell(self, key: str, sentence: str, point: Point, error: Exception | None = None) -> None:
        if key in self._told:
            return
        self._told.add(key)
        mb = self._limits.max_bytes / 1e6
        text = sentence.format(name=point.name, step=point.step, mb=mb, error=error)
        logger.log(text, logger.Text.warning)
