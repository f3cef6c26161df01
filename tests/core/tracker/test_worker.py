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
