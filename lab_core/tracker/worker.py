"""The thread that writes: it wakes for the first record, then works at an interval, and sleeps when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Worker:
    """Calls `work` in a thread of its own, soon after `notify` and at most once in an interval.

    Args:
        work: writes all there is, and says whether there was any; called from the thread alone,
            and must not raise.
        has_work: tells whether there is something to write.
        finish: called last, from the same thread.
        interval_s: the least time between two calls of `work`.
    """

    def __init__(
        self,
        work: Callable[[], bool],
        has_work: Callable[[], bool],
        finish: Callable[[], None],
        interval_s: float,
    ) -> None:
        self._work = work
        self._has_work = has_work
        self._finish = finish
        self._interval_s = interval_s
        # Read by the training thread without a lock: a wake-up too many does no harm.
        self.is_idle = True
        self._wake = threading.Event()  # there is something to write
        self._urgent = threading.Event()  # ... and somebody waits for it
        self._done = threading.Condition()  # guards the two counts
        self._num_wanted = 0
        self._num_done = 0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="lab-tracker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def notify(self) -> None:
        """Say that there is work. Needed only while `is_idle`."""
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that is there now is written; return whether it was in time."""
        deadline = time.monotonic() + timeout_s
        with self._done:
            self._num_wanted += 1
            wanted = self._num_wanted
            self._urgent.set()
            self._wake.set()
            while self._num_done < wanted:
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return self._num_done >= wanted
                self._done.wait(min(left, 0.5))
        return True

    def close(self, timeout_s: float) -> bool:
        """Let the thread write what is there, finish, and end; return whether it did in time."""
        self._is_closing = True
        self._urgent.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            self.is_idle = False
            while True:
                # Cleared before the counts are read: who asks after that sets it again.
                self._urgent.clear()
                is_last = self._is_closing
                with self._done:
                    wanted = self._num_wanted
                did_something = self._work()
                with self._done:
                    self._num_done = wanted
                    self._done.notify_all()
                if is_last:
                    self._finish()
                    return
                if not did_something:
                    self.is_idle = True
                    if not self._has_work():  # looked at again: it may have come before is_idle
                        break
                    self.is_idle = False
                self._urgent.wait(self._interval_s)
