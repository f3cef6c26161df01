"""The writer thread: it wakes for the first record, writes at intervals, and sleeps when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lab_core._threads import show_thread_name
from lab_core.tracker.pace import Pace


class Worker:
    """Calls `work` in its own thread, soon after `notify`, at the intervals of `pace`.

    Args:
        work: writes all pending records; called from this thread only, and must not raise.
        has_work: returns whether there is something to write.
        finish: called last, from the same thread.
        pace: decides when to call `work` again while records keep coming.
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
        # Read by the training thread without a lock: an extra wake-up does no harm.
        self.is_idle = True
        self._wake = threading.Event()  # there is something to write
        self._urgent = threading.Event()  # ... and a caller waits for it
        self._done = threading.Condition()  # guards the two counts
        self._num_wanted = 0
        self._num_done = 0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="lab-tracker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def notify(self) -> None:
        """Wake the thread to write. Needed only while `is_idle`."""
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all pending records are written; return False after `timeout_s`."""
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
        """Write pending records and end the thread; return False if it runs after `timeout_s`."""
        self._is_closing = True
        self._urgent.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        show_thread_name()
        is_last = False
        while not is_last:
            # First the interval, then whether there is something: records that come meanwhile wake nobody.
            self._urgent.wait(self._pace.wait_s(time.monotonic()))
            self.is_idle = True  # before has_work is called: later records wake the thread
            if not self._has_work() and not self._urgent.is_set():
                self._wake.wait()
            self._wake.clear()
            self.is_idle = False
            # Cleared before the counts are read: a later flush sets it again.
            self._urgent.clear()
            is_last = self._is_closing
            with self._done:
                wanted = self._num_wanted
            self._pace.written(time.monotonic())
            self._work()
            with self._done:
                self._num_done = wanted
                self._done.notify_all()
        self._finish()
