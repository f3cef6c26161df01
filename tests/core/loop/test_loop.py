from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import loop, tracker
from lab_core.errors import LabError, TrackerError
from lab_core.experiment import Experiment
from lab_core.helpers.training_loop import TrainingLoop, TrainingLoopConfigs
from lab_core.loop import Loop, StopRun


@pytest.fixture(autouse=True)
def fresh() -> Iterator[Loop]:
    state = Loop()
    loop.set_current(state)
    tracker.set_current(None)
    yield state
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler was left"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Saves:
    """Counts saves, as an experiment would make them."""

    def __init__(self, state: Loop) -> None:
        self.state = state
        self.steps: list[int] = []
        state.save = self

    def __call__(self) -> None:
        self.steps.append(self.state.step)
        self.state.saved()


def test_the_step_is_counted() -> None:
    loop.set_global_step(5)
    loop.add_global_step()
    loop.add_global_step(10)
    assert loop.get_global_step() == 16


@pytest.mark.parametrize("step", [-1, 1.5, torch.tensor(2.5), "3", None, True, 2**63])
def test_what_is_no_step_is_refused(step: Any) -> None:
    loop.set_global_step(5)
    with pytest.raises(TrackerError, match="a step is"):
        loop.set_global_step(step)
    assert loop.get_global_step() == 5


def test_a_step_is_a_plain_int_whatever_it_was_given_as() -> None:
    for step in (np.int64(7), torch.tensor(7)):
        loop.set_global_step(step)
        assert (type(loop.get_global_step()), loop.get_global_step()) == (int, 7)
    loop.add_global_step(torch.tensor(2))
    assert (type(loop.get_global_step()), loop.get_global_step()) == (int, 9)


@pytest.mark.parametrize("n", [-6, 0.5])
def test_what_adds_up_to_no_step_is_refused(n: Any) -> None:
    loop.set_global_step(5)
    with pytest.raises(TrackerError, match="a step is"):
        loop.add_global_step(n)
    assert loop.get_global_step() == 5


def test_loop_yields_values_that_are_the_step(fresh: Loop) -> None:
    seen = [(value, loop.get_global_step()) for value in loop.loop(range(0, 30, 10))]
    assert seen == [(0, 0), (10, 10), (20, 20)]
    assert loop.get_global_step() == 30
    assert loop.total_steps() == 30


def test_a_training_loop_goes_in_strides_to_its_count() -> None:
    starts = []
    for start in TrainingLoop(loop_count=30, loop_step=10):
        starts.append(start)
        loop.add_global_step(10)
    assert starts == [0, 10, 20]
    assert loop.get_global_step() == 30


def test_a_training_loop_steps_for_a_body_that_does_not() -> None:
    assert list(TrainingLoop(loop_count=3)) == [0, 1, 2]
    assert loop.get_global_step() == 3


def test_a_training_loop_begins_at_the_global_step() -> None:
    loop.set_global_step(20)
    assert list(TrainingLoop(loop_count=40, loop_step=10)) == [20, 30]


def test_metrics_stand_at_the_step_at_which_they_were_measured() -> None:
    points = Points()
    tracker.set_current(tracker.Tracker([points]))
    tracker.current().start()
    for start in TrainingLoop(loop_count=20, loop_step=10):
        loop.add_global_step(10)
        tracker.add(at_the_end=start)
    for _ in TrainingLoop(loop_count=22):
        tracker.add(uncounted=1.0)
    tracker.current().close()
    assert points.seen == {("at_the_end", 10), ("at_the_end", 20), ("uncounted", 20), ("uncounted", 21)}  # fmt: skip


class Points:
    name = "points"

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()

    def write(self, batch: Any) -> None:
        self.seen |= {(column.name, step) for column in batch.columns for step in column.steps}

    def close(self) -> None:
        pass


def test_checkpoints_are_saved_at_the_interval(fresh: Loop) -> None:
    saves = Saves(fresh)
    loop_ = TrainingLoop(loop_count=50, loop_step=5, is_save_models=True, save_models_interval=20)
    for _ in loop_:
        loop.add_global_step(5)
    assert saves.steps == [20, 40]


def test_checkpoints_are_due_every_so_many_steps(fresh: Loop) -> None:
    saves = Saves(fresh)
    fresh.save_every(3)
    for _ in loop.loop(10):
        pass
    assert saves.steps == [3, 6, 9]


def test_no_checkpoint_is_saved_unasked(fresh: Loop) -> None:
    saves = Saves(fresh)
    list(TrainingLoop(loop_count=5))
    assert saves.steps == []


@pytest.mark.parametrize("kind", ["training loop", "plain loop"])
def test_the_first_interrupt_finishes_the_iteration_saves_and_ends(fresh: Loop, kind: str) -> None:
    saves = Saves(fresh)
    bodies = 0
    for value in TrainingLoop(loop_count=5) if kind == "training loop" else loop.loop(5):
        if value == 1:
            interrupt()
        bodies += 1  # reached also in the interrupted iteration
    assert bodies == 2
    assert saves.steps == [2]
    assert fresh.is_interrupted


@pytest.mark.parametrize("kind", ["training loop", "loop"])
def test_an_interrupt_where_a_checkpoint_is_due_saves_once(fresh: Loop, kind: str) -> None:
    saves = Saves(fresh)
    fresh.save_every(1)
    for value in TrainingLoop(loop_count=5) if kind == "training loop" else loop.loop(5):
        if value == 1:
            interrupt()
    assert saves.steps == [1, 2]


def test_a_second_interrupt_aborts() -> None:
    reached = []

    def train() -> None:
        for value in TrainingLoop(loop_count=5):
            interrupt()
            reached.append(value)
            interrupt()
            reached.append(-1)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert reached == [0]


def test_an_inner_loop_leaves_the_outer_one_its_interrupts(fresh: Loop) -> None:
    bodies = []
    for value in TrainingLoop(loop_count=5):
        list(loop.loop(1))
        interrupt()
        bodies.append(value)
    assert bodies == [0]
    assert fresh.is_interrupted


def test_an_interrupt_is_immediate_when_the_loop_is_not_to_go_on() -> None:
    def train() -> None:
        for _ in TrainingLoop(loop_count=5, is_loop_on_interrupt=False):
            interrupt()
            pytest.fail("the iteration went on")

    with pytest.raises(KeyboardInterrupt):
        train()


def test_an_exception_in_the_body_gives_the_handler_back_and_later_loops_run() -> None:
    def fail(make: Any) -> None:
        for _ in make():
            raise ValueError

    for make in (lambda: TrainingLoop(loop_count=5), lambda: loop.loop(5)):
        with pytest.raises(ValueError):  # noqa: PT011 - the body's own
            fail(make)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(list(TrainingLoop(loop_count=5))) == 5


def test_a_break_gives_the_handler_back() -> None:
    for _ in TrainingLoop(loop_count=5):
        break
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_of_a_run_gives_the_handler_back_of_a_loop_that_is_still_referred_to(
    tmp_path: Any,
) -> None:
    run = Experiment("held", folder=tmp_path, writers=set(), console=False, is_code_recorded=False)
    held = loop.loop(5)

    def fail() -> None:
        for _ in held:
            raise ValueError

    with pytest.raises(ValueError), run.start():  # noqa: PT011 - the body's own
        fail()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_of_somebody_else_is_left_alone() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        for _ in TrainingLoop(loop_count=2):
            interrupt()
        assert heard == [1, 1]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_loop_runs_outside_the_main_thread() -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(TrainingLoop(loop_count=3)))
    thread.start()
    thread.join(30)
    assert seen == [0, 1, 2]


def test_finish_loop_ends_after_the_iteration_and_only_this_loop() -> None:
    values = []
    for value in loop.loop(5):
        values.append(value)
        if value == 2:
            loop.finish_loop()
    assert values == [0, 1, 2]
    assert list(TrainingLoop(loop_count=6)) == [3, 4, 5]


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_requested_stop_comes_between_two_iterations(fresh: Loop, checkpoint: bool) -> None:
    saves = Saves(fresh)
    bodies = []

    def train() -> None:
        for value in TrainingLoop(loop_count=9):
            if value == 3:
                other = threading.Thread(target=loop.request_stop, args=(checkpoint,))
                other.start()
                other.join(30)
            bodies.append(value)

    with pytest.raises(StopRun) as stopped:
        train()
    assert bodies == [0, 1, 2, 3]
    assert saves.steps == ([4] if checkpoint else [])
    assert stopped.value.is_saved == checkpoint


def test_a_stop_where_a_checkpoint_is_due_saves_once(fresh: Loop) -> None:
    saves = Saves(fresh)
    fresh.save_every(1)
    fresh.add(1)
    fresh.request_checkpoint()
    fresh.request_stop()
    with pytest.raises(StopRun) as stopped:
        fresh.boundary()
    assert stopped.value.is_saved
    assert saves.steps == [1]


def test_a_requested_checkpoint_is_saved_once(fresh: Loop) -> None:
    saves = Saves(fresh)
    for value in TrainingLoop(loop_count=5):
        if value == 1:
            loop.request_checkpoint()
    assert saves.steps == [2]


def test_an_uncaught_stop_ends_a_script_quietly() -> None:
    script = (
        "from lab_core import loop\n"
        "loop.request_stop()\n"
        "for _ in loop.loop(3): print('once')\n"
        "print('never')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")


def test_signs_of_life_are_counted() -> None:
    before = loop.activity_count()
    loop.activity()
    loop.add_global_step()
    loop.boundary()
    assert loop.activity_count() == before + 3


def test_the_loop_needs_no_torch() -> None:
    script = "import sys; from lab_core import loop, tracker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_configs_make_the_loop() -> None:
    class Configs(TrainingLoopConfigs):
        loop_count = 6
        loop_step = 2

    assert list(Configs().training_loop) == [0, 2, 4]


def test_a_stopped_run_is_recorded_as_stopped(tmp_path: Any) -> None:
    for how, status in ((loop.request_stop, "stopped"), (interrupt, "stopped")):
        run = Experiment(
            "stopped",
            folder=tmp_path / status,
            writers=set(),
            console=False,
            is_code_recorded=False,
        )
        with run.start():
            for _ in loop.loop(3):
                how()
        assert run.record.status == status
        assert loop.get_global_step() == 1


@pytest.mark.parametrize("n", [None, "3", [1], 1.5, -1])
def test_what_is_no_number_of_steps_is_refused_when_it_is_added(n: Any) -> None:
    loop.set_current(loop.Loop())
    with pytest.raises(TrackerError):
        loop.add_global_step(n)
    assert loop.get_global_step() == 0


def test_a_loop_takes_whole_numbers_and_rising_ranges() -> None:
    assert list(loop.loop(np.int64(2))) == [0, 1]
    for wrong in (2.0, [1, 2], True, "3"):
        with pytest.raises(LabError, match="takes a range or a number of steps, got"):
            loop.loop(wrong)  # type: ignore[arg-type]
    with pytest.raises(LabError, match=r"counts up, .* got range\(3, 0, -1\)"):
        loop.loop(range(3, 0, -1))


def test_a_training_loop_without_steps_is_told_instead_of_going_on_for_ever() -> None:
    with pytest.raises(LabError, match="loop_step must be at least 1, got 0"):
        TrainingLoop(loop_count=3, loop_step=0)
    with pytest.raises(LabError, match="log_write_interval must be at least 1, got 0"):
        TrainingLoop(loop_count=3, log_write_interval=0)
