"""The thread that writes: batches, failures, waiting, and the end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab_core import tracker
from lab_core.tracker import Tracker
from lab_core.writers import Batch, MemoryWriter


class HeldWriter:
    """Does not return from `write` until it is let go."""

    name = "held"

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.threads: set[str] = set()
        self.steps: list[list[int]] = []

    def write(self, batch: Batch) -> None:
        self.threads.add(threading.current_thread().name)
        self.steps.append(list(batch.columns[0].steps))
        self.entered.set()
        self.let_go.wait(60)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)


class FailingWriter:
    name = "failing"

    def __init__(self) -> None:
        self.num_calls = 0

    def write(self, batch: Batch) -> None:
        self.num_calls += 1
        raise OSError("no space left")

    def close(self) -> None:
        raise OSError("still none")


def test_the_first_batch_comes_at_once_and_the_rest_together() -> None:
    held = HeldWriter()
    current = Tracker([held])
    current.start()
    current.save(1, x=1.0)
    assert held.entered.wait(60)
    for step in range(2, 100):
        current.save(step, x=1.0)
    held.let_go.set()
    assert current.close()
    assert held.steps[0] == [1]
    assert [step for steps in held.steps for step in steps] == list(range(1, 100))


def test_writers_are_called_from_one_thread_that_is_not_the_trainings() -> None:
    held = HeldWriter()
    held.let_go.set()
    with Tracker([held]) as current:
        current.save(1, x=1.0)
        assert current.flush()
        current.save(2, x=1.0)
    assert held.threads == {"lab-held"}


def test_what_was_saved_before_the_start_is_written() -> None:
    kept = MemoryWriter()
    current = Tracker([kept])
    current.save(1, x=1.0)
    current.start()
    assert current.flush()
    assert kept.scalars == {"x": [(1, 1.0)]}
    current.close()


@pytest.mark.slow
def test_a_failing_writer_is_reported_once_and_hurts_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept, failing = MemoryWriter(), FailingWriter()
    current = Tracker([failing, kept])
    current.start()
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            current.save(step, x=1.0)
            assert not current.flush()
            assert kept.scalars["x"][-1] == (step, 1.0)
        assert current.close()
    assert kept.is_closed
    assert failing.num_calls > 3
    assert [r.getMessage() for r in caplog.records] == [
        "the failing writer failed, the training goes on and it is tried again: OSError: no space left",
        "the failing writer lost 3 values, of steps 0 to 2: OSError: no space left",
    ]


@pytest.mark.slow
def test_the_owner_may_be_told_of_a_failure_instead() -> None:
    told: list[tuple[str, BaseException]] = []

    def tell(name: str, error: BaseException) -> None:
        told.append((name, error))
        raise RuntimeError("even this one may fail")

    with Tracker([FailingWriter()], on_failure=tell) as current:
        current.save(1, x=1.0)
    assert [(name, str(error)) for name, error in told] == [("failing", "no space left")]


def test_close_is_bounded_in_time_and_says_whom_it_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = HeldWriter()
    current = Tracker([held])
    current.start()
    current.save(1, x=1.0)
    assert held.entered.wait(60)
    assert not current.flush(0.01)
    with caplog.at_level(logging.WARNING):
        assert not current.close(0.01)
    assert "the writers (held) did not finish in 0.01 s" in caplog.text
    held.let_go.set()


def test_close_twice_is_fine() -> None:
    kept = MemoryWriter()
    current = Tracker([kept])
    current.start()
    current.save(1, x=1.0)
    assert current.close()
    assert current.close()
    assert kept.scalars == {"x": [(1, 1.0)]}


def test_what_is_saved_after_the_end_is_only_remembered() -> None:
    kept = MemoryWriter()
    current = Tracker([kept])
    current.start()
    current.save(1, x=1.0)
    assert current.close()
    for step in range(2, 10):
        current.save(step, x=float(step))
    assert current.last_values() == {"x": 9.0}
    assert kept.scalars == {"x": [(1, 1.0)]}
    assert not current._records


def test_saving_never_waits_for_a_writer() -> None:
    held = HeldWriter()
    current = Tracker([held])
    current.start()
    current.save(0, x=1.0)
    assert held.entered.wait(60)
    for step in range(1, 10_000):  # all of this while the writer stands still
        current.save(step, x=1.0)
    assert current.last_values() == {"x": 1.0}
    assert current.state_dict()["last"] == {"x": 1.0}
    held.let_go.set()
    assert current.close()


def test_without_a_run_values_are_checked_and_the_last_remembered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker.set_current(None)
    num_threads = threading.active_count()
    for step in range(100):
        tracker.save(step, loss=float(step))
    assert tracker.last_values() == {"loss": 99.0}
    assert threading.active_count() == num_threads
    assert capsys.readouterr().out == ""
    assert tracker.flush()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_parents_writers_alone() -> None:
    script = """
import os
from lab_core import tracker
from lab_core.writers import MemoryWriter
kept = MemoryWriter()
current = tracker.set_current(tracker.Tracker([kept]))
current.start()
tracker.save(1, x=1.0)
pid = os.fork()
if pid == 0:
    tracker.save(2, x=2.0)
    os._exit(0 if tracker.current() is not current and tracker.last_values() == {"x": 2.0} else 1)
_, status = os.waitpid(pid, 0)
current.close()
assert status == 0, status
assert kept.scalars == {"x": [(1, 1.0)]}, kept.scalars
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_importing_it_imports_neither_torch_nor_numpy_nor_rich() -> None:
    script = """
import sys
from lab_core import logger, monit, tracker, writers
tracker.save(1, x=1.0)
found = {"torch", "numpy", "rich", "tensorboard", "IPython"} & sys.modules.keys()
assert not found, found
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="threads have names in /proc on Linux only")
def test_its_threads_have_names_that_the_system_shows() -> None:
    held = HeldWriter()
    with Tracker([held]) as current:
        current.save(1, x=1.0)
        assert held.entered.wait(60)
        names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
        held.let_go.set()
    assert {"lab-tracker", "lab-held"} <= names
