"""What a trainer says to the server: events into the attempt's spool, from any of its threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable

from lab_core.writers.base import Batch
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolWriter
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import RunState

_RESERVE_BYTES = 64 << 10


class Outbox:
    """Appends events to the spool; after the disk refused one, nothing but the outcome follows.

    Attributes:
        failure: why the spool could not be written, None while it can.
    """

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self.attempt = attempt
        self.failure: OSError | None = None
        self._lock = threading.Lock()  # guards the spool and failure: three threads write
        self._reserve = folder.reserve(attempt)
        self._spool = SpoolWriter(folder.spool(attempt))
        with self._reserve.open("wb") as file:
            # what it holds makes room for the outcome when the disk is full
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)

    def send(self, told: Iterable[EncodedEvent]) -> None:
        """Append events.

        Raises:
            OSError: If the disk takes no more, now or at an earlier call.
        """
        with self._lock:
            if self.failure is not None:
                raise self.failure
            try:
                self._spool.append(event.payload for event in told)
            except OSError as error:
                self.failure = error
                raise

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
            try:
                self._spool.append([outcome.payload])
                self._spool.sync()
            except OSError:
                return False
            return True


class SpoolMetrics:
    """The tracker writer that sends metrics to the server, DESIGN section 1."""

    name = "server"

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def write(self, batch: Batch) -> None:
        """Encode a batch, once and for all, and append it."""
        measured = events.encode_metrics(self._outbox.attempt, time.time_ns(), batch.columns)
        if measured:
            self._outbox.send(measured)

    def close(self) -> None:
        """Leave the rest to the trainer: it has more to say."""
        with contextlib.suppress(OSError):
            self._outbox.sync()
