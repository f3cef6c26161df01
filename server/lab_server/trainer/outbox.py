"""What a trainer says to the server: events into the attempt's spool, from any of its threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from lab_core.writers.base import Batch
from lab_server.files.bell import Bell
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import HEADER_BYTES, SpoolWriter
from lab_server.files.tail import Mark, TailWriter, columns_of
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.media import MediaLimits
from lab_server.model.run import RunState
from lab_server.trainer.media import MediaFilter

_RESERVE_BYTES = 64 << 10


class Outbox:
    """Appends events to the spool; after the disk refused one, nothing but the outcome follows.

    Attributes:
        failure: why the spool could not be written, None while it can.
        on_failure: called when that has become known, from whatever thread.
        tail: what was measured and may not be in the spool yet.
    """

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self.attempt = attempt
        self.failure: OSError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._lock = threading.Lock()  # guards the spool and failure: three threads write
        self._reserve = folder.reserve(attempt)
        self._spool = SpoolWriter(folder.spool(attempt))
        self._bell = Bell(folder.spool(attempt))
        with self._reserve.open("wb") as file:
            # what it holds makes room for the outcome when the disk is full
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        self.tail = TailWriter(folder.tail(attempt))

    @property
    def spool_end(self) -> int:
        """The spool's length."""
        return self._spool.end

    def send(self, told: Iterable[EncodedEvent], *, is_urgent: bool = True) -> None:
        """Append events.

        Args:
            told: the events.
            is_urgent: wake the server. Else it reads them with what is urgent, or when it looks by itself: each second.

        Raises:
            OSError: If the disk takes no more, now or at an earlier call.
        """
        with self._lock:
            self._append([event.payload for event in told], is_urgent=is_urgent)

    def send_metrics(self, told: Iterable[EncodedEvent], last_row: int) -> None:
        """Append the metrics of all rows up to one.

        Raises:
            OSError: If the disk takes no more, now or at an earlier call.
        """
        payloads = [event.payload for event in told]
        with self._lock:
            if payloads:
                self._mark(payloads, last_row)
                self._append(payloads)
            self.tail.spooled_row = last_row

    def sync(self) -> None:
        """Return when all that was sent is on the disk."""
        with self._lock:
            self._spool.sync()

    def state(self, state: RunState, reason: str = "", traceback: str = "") -> None:
        """Send a change of the state."""
        self.send([events.encode_state(self.attempt, time.time_ns(), state, reason, traceback)])

    def finish(self, state: RunState, reason: str = "", traceback: str = "") -> bool:
        """Write how the attempt ended, its last record; return whether the disk took it."""
        outcome = events.encode_state(self.attempt, time.time_ns(), state, reason, traceback)
        with self._lock:
            self._reserve.unlink(missing_ok=True)
            metrics = self._last_metrics()
            if metrics and self._write([*metrics, outcome.payload]):
                return True
            return self._write([outcome.payload])

    def _last_metrics(self) -> list[bytes]:
        """Return what a writer that hangs, or failed, has not sent."""
        rows = self.tail.rows()
        if not rows:
            return []
        time_ns = int(rows[-1].time * 1e9)
        told = events.encode_metrics(self.attempt, time_ns, columns_of(rows))
        payloads = [event.payload for event in told]
        self._mark(payloads, rows[-1].number)
        return payloads

    def _mark(self, payloads: Sequence[bytes], last_row: int) -> None:
        begin = self._spool.end
        size = sum(HEADER_BYTES + len(payload) for payload in payloads)
        self.tail.mark(Mark(last_row, begin, begin + size))

    def _append(self, payloads: Sequence[bytes], *, is_urgent: bool = True) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            self._spool.append(payloads)
        except OSError as error:
            self.failure = error
            self.on_failure()
            raise
        if is_urgent:
            self._bell.ring()

    def _write(self, payloads: Sequence[bytes]) -> bool:
        try:
            self._spool.append(payloads)
            self._spool.sync()
        except OSError:
            return False
        self._bell.ring()
        return True


class SpoolMetrics:
    """The tracker writer that sends what is tracked to the server, and keeps them meanwhile from being lost."""

    name = "server"

    def __init__(self, outbox: Outbox, media: MediaLimits) -> None:
        self._outbox = outbox
        self._media = MediaFilter(media)
        self.put_row = outbox.tail.put  # not a method: it is called at each step

    def write(self, batch: Batch) -> None:
        """Encode a batch, once and for all, and append it."""
        now = time.time_ns()
        measured = events.encode_metrics(self._outbox.attempt, now, batch.columns)
        media = self._media.events(self._outbox.attempt, now, batch)
        self._outbox.send_metrics([*measured, *media], batch.last_row)

    def close(self) -> None:
        """Leave the rest to the trainer: it has more to say."""
        with contextlib.suppress(OSError):
            self._outbox.sync()
