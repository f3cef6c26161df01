"""One writer in a thread of its own: what it has to do, in order, and again where it failed.

The lane's thread alone calls the writer. `_changed` guards the queue and what is counted.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lab_core._threads import show_thread_name
from lab_core.errors import LabError
from lab_core.writers.base import Batch, Writer

_log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 << 20
"""Of batches that a writer is slow to take, so many wait before the run waits for it. They are 260,000 values: what the
fastest run, 84,000 steps a second of two metrics, measures while a disk pauses for a second and a half, and an ordinary
one in minutes. More would only put off the moment from which a run goes at its slowest writer's speed."""

MAX_KEPT_BYTES = 64 << 20
"""Of batches that a writer fails to take, or hangs with, so many are kept for it; then the oldest are given up."""

_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # before another try; the last one from then on
_LAST_PAUSES_S = (0.1, 0.5)  # once the run has ended
_NUM_TRIES = 3  # of a batch that seems to be what is wrong
_PATIENCE_S = 5.0  # after so long without getting on, a writer is not slow, but stuck


@dataclass(slots=True, eq=False)
class _Task:
    call: Callable[[], None]
    batch: Batch | None
    size_bytes: int
    num_tries: int = 0


class Lane:
    """Passes tasks to one writer at the writer's own pace.

    What raises is reported once and tried again, until it is written: for as long as the run lasts
    where the place is at fault (an `OSError`, a locked database), three times otherwise. So a writer
    that is called again finds the same batch, and must have undone what it wrote of it.

    What is lost in the end, or because it got too much, is told when the writer writes again, or closes.

    Args:
        writer: who gets the tasks.
        on_failure: called with the writer's name and its first error, from the lane's thread.
    """

    def __init__(self, writer: Writer, on_failure: Callable[[str, BaseException], None]) -> None:
        self.writer = writer
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._queue: deque[_Task] = deque()
        self._kept_bytes = 0
        self._num_put = 0
        self._num_done = 0
        self._num_failures = 0
        self._is_failing = False
        self._is_reported = False
        self._is_hurried = False  # somebody waits: no pause before the next try
        self._is_closing = False
        self._got_on_s = time.monotonic()
        self._num_last_tries = 0
        self._num_lost = 0
        self._lost_steps = (0, 0)
        self._lost_by: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"lab-{writer.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, call: Callable[[], None], batch: Batch | None = None) -> None:
        """Add a task; waits for a writer that is slow, not for one that is stuck.

        Args:
            call: does it.
            batch: what it writes, if it does.
        """
        size = batch.approximate_bytes() if batch is not None else 0
        with self._changed:
            if not self._queue:
                self._got_on_s = time.monotonic()
            while self._is_too_much(size) and not self._is_stuck():
                self._changed.wait(0.5)
            self._queue.append(_Task(call, batch, size))
            self._kept_bytes += size
            self._num_put += 1
            self._give_up_oldest()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all tasks of now are done; return whether they are.

        It waits no longer than for one more try of a task that fails.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            wanted, failures = self._num_put, self._num_failures
            self._is_hurried = True
            self._changed.notify_all()
            while self._num_done < wanted and self._num_failures == failures:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    break
                self._changed.wait(min(left, 0.5))
            return self._num_done >= wanted and self._num_failures == failures

    def close(self, timeout_s: float) -> bool:
        """Finish the remaining tasks and close the writer; return whether it finished in time."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(max(timeout_s, 0.0))
        return not self._thread.is_alive()

    def _run(self) -> None:
        show_thread_name()
        while (task := self._next()) is not None:
            error = _error_of(task.call)
            with self._changed:
                self._note(task, error)
                self._changed.notify_all()
            if error is None:
                self._tell_lost()
            else:
                self._report(error)
                self._pause(task)
        self._tell_lost()
        error = _error_of(self.writer.close)
        if error is not None:
            self._report(error)

    def _next(self) -> _Task | None:
        with self._changed:
            while not self._queue and not self._is_closing:
                self._changed.wait()
            return self._queue[0] if self._queue else None

    def _note(self, task: _Task, error: BaseException | None) -> None:
        """Take in how a try of a task went."""
        self._got_on_s = time.monotonic()
        if error is None:
            self._is_failing = False
            self._remove(task)
            return
        task.num_tries += 1
        self._num_failures += 1
        self._is_failing = True
        self._lost_by = error
        if isinstance(error, LabError) or (
            task.num_tries >= _NUM_TRIES and not isinstance(error, OSError | sqlite3.Error)
        ):
            self._give_up(task)
        elif self._is_closing:
            self._num_last_tries += 1
            if self._num_last_tries > len(_LAST_PAUSES_S):
                for left in tuple(self._queue):
                    self._give_up(left)

    def _pause(self, task: _Task) -> None:
        with self._changed:
            if task not in self._queue:
                return
            if self._num_last_tries:
                self._changed.wait_for(lambda: False, _LAST_PAUSES_S[self._num_last_tries - 1])
                return
            pause_s = _PAUSES_S[min(task.num_tries, len(_PAUSES_S)) - 1]
            self._changed.wait_for(lambda: self._is_hurried or self._is_closing, pause_s)
            self._is_hurried = False

    def _is_too_much(self, size: int) -> bool:
        return bool(self._queue) and self._kept_bytes + size > MAX_WAITING_BYTES

    def _is_stuck(self) -> bool:
        return self._is_failing or time.monotonic() - self._got_on_s > _PATIENCE_S

    def _give_up_oldest(self) -> None:
        if self._kept_bytes <= MAX_KEPT_BYTES:
            return
        for task in tuple(self._queue)[1:-1]:  # the first is being written, the last is the newest
            if task.batch is not None and self._kept_bytes > MAX_KEPT_BYTES:
                self._give_up(task)

    def _give_up(self, task: _Task) -> None:
        self._remove(task)
        steps = task.batch.steps() if task.batch is not None else []
        if steps:
            first, last = self._lost_steps if self._num_lost else (steps[0], steps[0])
            self._lost_steps = min(first, *steps), max(last, *steps)
            self._num_lost += len(steps)

    def _remove(self, task: _Task) -> None:
        self._queue.remove(task)
        self._kept_bytes -= task.size_bytes
        self._num_done += 1

    def _tell_lost(self) -> None:
        with self._changed:
            num, self._num_lost = self._num_lost, 0
            error, self._lost_by = self._lost_by, None
        if num:
            why = f"{type(error).__name__}: {error}" if error else "it could not keep up"
            _log.warning(
                "the %s writer lost %s, of steps %d to %d: %s",
                self.writer.name,
                f"{num} value{'s' if num > 1 else ''}",
                *self._lost_steps,
                why,
            )

    def _report(self, error: BaseException) -> None:
        if self._is_reported:
            return
        self._is_reported = True
        try:
            self._on_failure(self.writer.name, error)
        except Exception:
            _log.exception("reporting a failure of the %s writer failed", self.writer.name)


def log_failure(name: str, error: BaseException) -> None:
    """Log that a writer failed."""
    _log.warning(
        "the %s writer failed, the training goes on and it is tried again: %s: %s",
        name,
        type(error).__name__,
        error,
    )


def _error_of(call: Callable[[], None]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None
