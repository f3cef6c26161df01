"""The global step, and the place between two steps where a run may be saved or stopped.

The state belongs to one ``Loop`` object at a time; ``lab_core.experiment`` puts a fresh one in place
for each run. Training code runs in one thread and owns it; other threads may only call
``request_stop`` and ``request_checkpoint`` and read the counters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from lab_core import tracker
from lab_core._interrupts import catch_interrupts
from lab_core.tracker import steps

__all__ = [
    "Loop",
    "StopRun",
    "activity",
    "activity_count",
    "add_global_step",
    "boundary",
    "current",
    "finish_loop",
    "get_global_step",
    "loop",
    "request_checkpoint",
    "request_stop",
    "set_current",
    "set_global_step",
    "total_steps",
]


class StopRun(SystemExit):  # an uncaught one ends a script quietly, as was asked for
    """Raised between two steps when somebody asked the run to stop.

    Attributes:
        is_saved: a checkpoint of this very place was saved: the run can go on from here.
    """

    def __init__(self, is_saved: bool = False) -> None:
        super().__init__()
        self.is_saved = is_saved


class Resumable(Protocol):
    """Something iterated that a checkpoint can be taken within: a training loop, a loader."""

    name: str

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return plain data from which the iteration can be taken up again.

        Args:
            is_innermost: nothing resumable is being iterated inside this one.
        """


class Loop:
    """The step and the position of one run.

    Attributes:
        step: the global step: how much has been trained.
        total_steps: the step at which the run will be done, None if nobody said.
        activity_count: goes up whenever the run shows a sign of life.
        is_interrupted: Ctrl-C was pressed: loops end after the iteration in progress.
        save: saves a checkpoint of the run; None while there is no run to save.
        on_arrival: called once, when a resumed run has come to where its checkpoint was taken.
        checkpoint_at: the step from which a checkpoint is due.
    """

    def __init__(self) -> None:
        self.step = 0
        self.total_steps: int | None = None
        self.activity_count = 0
        self.is_interrupted = False
        self.save: Callable[[], object] | None = None
        self.on_arrival: Callable[[], None] | None = None
        self.checkpoint_at: float = math.inf
        self._checkpoint_interval: int | None = None
        self._active: list[Resumable] = []
        self._finished: list[str] = []
        self._pending: dict[str, dict[str, Any]] = {}
        self._pending_finished: list[str] = []
        self._stop_with_checkpoint: bool | None = None
        self._is_checkpoint_requested = False
        self._is_finishing = False

    def request_stop(self, checkpoint: bool = True) -> None:
        """Ask the run to stop at the next boundary, with a checkpoint or without; any thread."""
        self._stop_with_checkpoint = checkpoint

    def request_checkpoint(self) -> None:
        """Ask for a checkpoint at the next boundary; any thread."""
        self._is_checkpoint_requested = True

    def save_every(self, interval: int | None) -> None:
        """Let a checkpoint be due whenever `interval` steps have passed since the last one."""
        self._checkpoint_interval = interval
        self.saved()

    def saved(self) -> None:
        """Say that the run as it stands is saved: the next checkpoint is an interval away."""
        interval = self._checkpoint_interval
        self.checkpoint_at = math.inf if interval is None else self.step + interval

    def boundary(self, *, exhausted: bool = False) -> None:
        """Save if a checkpoint is due and stop if asked to; called between two steps.

        Args:
            exhausted: a loader has given its last batch. What the iteration does after it, a
                validation say, is still to come, and a checkpoint that is merely due waits for it:
                so a checkpoint never stands before metrics of its own step.

        Raises:
            StopRun: If a stop was requested.
        """
        self.activity_count += 1
        tracker.settle()
        is_due = self.step >= self.checkpoint_at or self._is_checkpoint_requested
        is_saved = False
        if is_due and self.save is not None and not (exhausted and len(self._active) > 1):
            self._is_checkpoint_requested = False
            self.save()
            is_saved = True
        if self._stop_with_checkpoint is not None:
            if self._stop_with_checkpoint and self.save is not None and not is_saved:
                self.save()
                is_saved = True
            raise StopRun(is_saved)

    def positions(self) -> dict[str, Any]:
        """Return where the iteration stands, as plain data for a checkpoint."""
        last = len(self._active) - 1
        active = {r.name: r.position(is_innermost=i == last) for i, r in enumerate(self._active)}
        # through with its batches matters only when the iteration is entered again
        return {"active": active, "finished": list(self._finished) if last > 0 else []}

    def resume(self, step: int, positions: Mapping[str, Any]) -> None:
        """Set the step, and let what is iterated next take up its position."""
        self.step = step
        self._pending = dict(positions.get("active", {}))
        self._pending_finished = list(positions.get("finished", ()))

    def pending(self, name: str) -> dict[str, Any] | None:
        """Return the position that `name` will resume at, None if it starts afresh."""
        return None if name in self._pending_finished else self._pending.get(name)

    def skip_finished(self, name: str) -> bool:
        """Whether `name` was through with its batches at the checkpoint; counts as an iteration."""
        if name not in self._pending_finished:
            return False
        self._pending_finished.remove(name)
        self._finished.append(name)
        return True

    @contextlib.contextmanager
    def iterating(self, resumable: Resumable) -> Iterator[None]:
        """Let checkpoints record the position of `resumable` while it is being iterated."""
        self._active.append(resumable)
        self._pending.pop(resumable.name, None)
        if not self._pending and self.on_arrival is not None:
            arrive, self.on_arrival = self.on_arrival, None
            arrive()
        try:
            yield
        finally:
            self._active.remove(resumable)
            self._finished.append(resumable.name)

    def start_iteration(self) -> None:
        """Forget which loaders are through: a new iteration begins."""
        self._finished.clear()

    @property
    def is_ending(self) -> bool:
        """Whether the loop ends after the iteration in progress."""
        return self._is_finishing or self.is_interrupted

    def interrupt(self) -> None:
        """End this and later loops after the iteration in progress, as Ctrl-C does."""
        self.is_interrupted = True

    def finish_loop(self) -> None:
        """End the loop after the iteration in progress."""
        self._is_finishing = True

    def end_loop(self) -> None:
        """Say that a loop has ended: save what Ctrl-C cut short, and free the next one to run."""
        self._is_finishing = False
        if self.is_interrupted and self.save is not None:
            self.save()

    def loop(self, values: range | int) -> Iterator[int]:
        """Yield each value; the global step is at least that value while the body runs.

        A resumed run goes on with the value that was next. Ctrl-C lets the iteration finish, saves
        a checkpoint and ends the loop; a second one aborts.
        """
        return _RangeLoop(self, range(values) if isinstance(values, int) else values).run()


class _RangeLoop:
    """One use of ``loop.loop``."""

    name = "loop"

    def __init__(self, state: Loop, values: range) -> None:
        self._state = state
        self._values = values
        self._value = values.start

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        return {"value": self._value + (self._values.step if is_innermost else 0)}

    def run(self) -> Iterator[int]:
        state, values = self._state, self._values
        resumed = state.pending(self.name)
        if resumed is not None:
            values = range(resumed["value"], values.stop, values.step)
        state.total_steps = values.stop
        with catch_interrupts(state), state.iterating(self):
            for value in values:
                if state.is_ending:
                    break
                state.start_iteration()
                self._value = value
                state.step = max(state.step, value)
                yield value
                tracker.settle()  # what was measured belongs to this value, not to the next
                state.step = max(state.step, value + values.step)
                state.boundary()
            state.end_loop()


_current = Loop()
steps.set_source(_current)


def current() -> Loop:
    """Return the loop of the run in progress."""
    return _current


def set_current(loop: Loop) -> None:
    """Put a run's loop in place; ``lab_core.experiment`` does this for each run."""
    global _current
    _current = loop
    steps.set_source(loop)


def get_global_step() -> int:
    """Return the global step."""
    return _current.step


def set_global_step(step: int) -> None:
    """Set the global step."""
    _current.step = step


def add_global_step(n: int = 1) -> None:
    """Add `n` to the global step."""
    _current.step += n
    _current.activity_count += 1


def loop(values: range | int) -> Iterator[int]:
    """Yield each value, as the global step; see ``Loop.loop``."""
    return _current.loop(values)


def finish_loop() -> None:
    """End the loop after the iteration in progress."""
    _current.finish_loop()


def total_steps() -> int | None:
    """Return the step at which the run will be done, None if nobody said."""
    return _current.total_steps


def activity() -> None:
    """Show a sign of life: what reads ``activity_count`` knows that the run has not hung."""
    _current.activity_count += 1


def activity_count() -> int:
    """Return how often the run has shown a sign of life."""
    return _current.activity_count


def request_stop(checkpoint: bool = True) -> None:
    """Ask the run to stop at the next boundary; from any thread or a signal handler."""
    _current.request_stop(checkpoint)


def request_checkpoint() -> None:
    """Ask for a checkpoint at the next boundary; from any thread."""
    _current.request_checkpoint()


def boundary() -> None:
    """Say that one step is done and the next not begun: the run may be saved or stopped here."""
    _current.boundary()
