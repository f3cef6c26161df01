"""The thread that writes: who waits for it gets an answer in time."""

from __future__ import annotations

import threading

from lab_core.tracker.pace import Pace
from lab_core.tracker.worker import Worker


def test_who_waits_for_a_write_that_takes_too_long_is_told_so() -> None:
    let_go = threading.Event()
    worker = Worker(lambda: let_go.wait(60), lambda: False, lambda: None, Pace(0.2))
    worker.start()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(worker.flush(0.01)), daemon=True)
    waiting.start()
    waiting.join(10)
    assert answers == [False]
    let_go.set()
    assert worker.flush(60)
    assert worker.close(60)


class OneWrite(Pace):
    """The second write is due in a minute."""

    def __init__(self) -> None:
        super().__init__(0.2)
        self.is_waiting = threading.Event()
        self._num_asked = 0

    def wait_s(self, now: float) -> float:
        self._num_asked += 1
        if self._num_asked > 1:
            self.is_waiting.set()
        return 60.0 if self._num_asked > 1 else 0.0


def test_records_that_come_before_the_next_write_is_due_wake_nobody() -> None:
    pace = OneWrite()
    worker = Worker(lambda: None, lambda: False, lambda: None, pace)
    worker.start()
    worker.notify()
    assert pace.is_waiting.wait(20)
    assert not worker.is_idle
    assert worker.flush(60)
    assert worker.close(60)
