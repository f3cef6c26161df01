"""The thread that writes: it wakes for the first record, works at a pace, and sleeps when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lab_core._threads import show_thread_name
from lab_core.tracker.pace import Pace


class Worker:
    """Calls `work` in a thread of its own, soon after `notify`, at its pace.

    Args:
        work: writes all there is; called from the thread alone, and must not raise.
        has_work: tells whether there is something to write.
        finish: called last, from the same thread.
        pace: says when to call `work` again while there is always something to write.
    """

    def __init__(
        self,
        work: Callable[[], object],
        has_work: Callable[[], bool],
        finish: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._work = work
        self._has_work = has_work
        self._finish = finish
        self._pace = pace
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
        show_thread_name()
        is_last = False
        while not is_last:
            if not self._has_work() and not self._urgent.is_set():
                self._wake.wait()
            self._wake.clear()
            self.is_idle = False
            self._urgent.wait(self._pace.wait_s(time.monotonic()))
            # Cleared before the counts are read: who asks after that sets it again.
            self._urgent.clear()
            is_last = self._is_closing
            with self._done:
                wanted = self._num_wanted
            self._pace.written(time.monotonic())
            self._work()
            with self._done:
                self._num_done = wanted
                self._done.notify_all()
            self.is_idle = True  # before has_work is asked: what comes after that wakes the thread
        self._finish()
