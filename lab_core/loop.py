"""The global step, and the boundaries between steps, where a run can be saved or stopped.

The state is in the current ``Loop`` object; ``lab_core.experiment`` sets a new one for each run. The
thread that runs the training code owns it; other threads may only call
``request_stop`` and ``request_checkpoint`` and read the counters.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, SupportsIndex

from lab_core import logger, tracker
from lab_core._interrupts import catch_interrupts
from lab_core.errors import CheckpointError
from lab_core.tracker import steps
from lab_core.tracker.forms import checked_step

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


_MAX_STEP = 2**63


class StopRun(SystemExit):  # if not caught, it ends a script without a traceback
    """Raised between two steps after a request to stop the run.

    Attributes:
        is_saved: a checkpoint was saved at this step: the run can be resumed from here.
        code: the exit status of the process; None if only the run ends.
    """

    def __init__(self, is_saved: bool = False, exit_status: int | None = None) -> None:
        super().__init__(*(() if exit_status is None else (exit_status,)))
        self.is_saved = is_saved


def nothing_to_train(step: int, total: int) -> str:
    """Return the error message for a checkpoint at or after the end of the run."""
    return (
        f"the checkpoint is at step {step}, the run ends at step {total}: nothing to train; the end is "
        "counted from step 0, so set a later one: more epochs, a larger loop_count"
    )


_Position = tuple[str, dict[str, Any]]
"""The name of a resumable iteration, and the position in it."""


class Resumable(Protocol):
    """An iteration that a checkpoint can be saved within: a training loop, a loader."""

    name: str

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return the position as plain data, from which the iteration can be resumed.

        Args:
            is_innermost: there is no resumable iteration inside this one.
        """


class Loop:
    """The step and the position of one run.

    Attributes:
        step: the global step.
        total_steps: the step at which the run ends; None if unknown.
        activity_count: increases whenever the run makes progress.
        is_interrupted: Ctrl-C was pressed: loops end after the iteration in progress.
        is_saving: the run saves checkpoints, also when nobody stops it.
        exit_status: with what the process exits when the run has stopped; set by SIGTERM and SIGHUP.
        error_before: what the interpreter had reported last when training began, if anything.
        save: saves a checkpoint of the run; None while there is no run to save.
        save_end: saves the checkpoint with which the run ends; None where it ends without.
        end_step: the step at which a training loop ends, also within an iteration; None outside of one.
        on_arrival: called once, when a resumed run has come to where its checkpoint was taken.
        saved_step: the step at which the run was saved last; None before.
        checkpoint_at: the step from which a checkpoint is due.
        until_step: the step from which the run is to be saved and stopped, unless it ends there.
    """

    def __init__(self) -> None:
        self.step = 0
        self.total_steps: int | None = None
        self.activity_count = 0
        self.is_interrupted = False
        self.is_saving = False
        self.exit_status: int | None = None
        self.error_before: BaseException | None = None
        self.save: Callable[[], object] | None = None
        self.save_end: Callable[[], object] | None = None
        self.saved_step: int | None = None
        self.end_step: int | None = None
        self.on_arrival: Callable[[], None] | None = None
        self.checkpoint_at: float = math.inf
        self.until_step: float = math.inf
        self._checkpoint_interval: int | None = None
        self._active: list[Resumable] = []
        # for each level of nesting, the loaders that are finished within the current iteration
        self._finished: list[list[str]] = [[]]
        self._ended: list[_Position] = []
        self._pending: list[_Position] = []
        self._pending_finished: list[list[str]] = []
        self._pending_ended: list[_Position] = []
        self._is_entered = False  # the outermost pending loop was entered
        self._stop_with_checkpoint: bool | None = None
        self._is_checkpoint_requested = False
        self._is_finishing = False
        self._is_exhausted = False  # a loader was, at the last boundary
        self._is_boundary_saved = False  # the last boundary saved a checkpoint

    def request_stop(self, checkpoint: bool = True) -> None:
        """Request a stop at the next boundary, with or without a checkpoint; from any thread."""
        self._stop_with_checkpoint = checkpoint

    def request_checkpoint(self) -> None:
        """Request a checkpoint at the next boundary; from any thread."""
        self._is_checkpoint_requested = True
        self.is_saving = True

    def save_every(self, interval: int | None) -> None:
        """Save a checkpoint every `interval` steps; None for no interval."""
        self._checkpoint_interval = interval
        self.is_saving = self.is_saving or interval is not None
        self._wait_for_next()

    def saved(self) -> None:
        """Record that the run is saved at this step: the next checkpoint is due after an interval."""
        self.saved_step = self.step
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        interval = self._checkpoint_interval
        self.checkpoint_at = math.inf if interval is None else self.step + interval

    def boundary(self, *, exhausted: bool = False) -> None:
        """Save if a checkpoint is due, and stop if requested; called between two steps.

        Args:
            exhausted: a loader has yielded its last batch. The code after it in the iteration, e.g. a
                validation, is still to run, so a checkpoint that is due waits for it: a checkpoint
                never precedes metrics of its own step.

        Raises:
            StopRun: If a stop was requested.
            CheckpointError: If it was to be with a checkpoint, and that cannot be written; or if a
                resumed run ends an iteration in which it was to come to the place of its checkpoint.
        """
        self.activity_count += 1
        self._is_boundary_saved = False
        self._is_exhausted = exhausted
        if self.unreached and self._is_entered:
            raise self._lost("went on without it")
        tracker.settle()
        if self.unreached:
            # no new checkpoint: the state is not completely restored yet
            if self._stop_with_checkpoint is not None:
                raise StopRun(False, self.exit_status)
            return
        is_due = self.step >= self.checkpoint_at or self._is_checkpoint_requested
        is_saved = False
        is_within = exhausted and len(self._active) > 1
        if self.has_reached_until_step and not is_within:
            self.request_stop(checkpoint=True)
        elif is_due and self.save is not None and not is_within:
            self._is_checkpoint_requested = False
            is_saved = self._save_if_possible(self.save)
        elif self._is_at_end and self.save_end is not None and not is_within:
            is_saved = self._save_if_possible(self.save_end)
        self._is_boundary_saved = is_saved
        if self._stop_with_checkpoint is not None:
            if self._stop_with_checkpoint and self.save is not None and not is_saved:
                self.save()
                is_saved = True
            raise StopRun(is_saved, self.exit_status)

    @property
    def has_reached_until_step(self) -> bool:
        """Whether the run came to its `until_step`, and not to its end."""
        if self.step < self.until_step:
            return False
        return self.total_steps is None or self.step < self.total_steps

    @property
    def _is_at_end(self) -> bool:
        is_at_end = self.total_steps is not None and self.step >= self.total_steps
        return is_at_end and self.saved_step != self.step

    def _save_if_possible(self, save: Callable[[], object]) -> bool:
        try:
            save()
        except CheckpointError as error:
            logger.log(f"{error}; the training goes on without it", logger.Text.warning)
            self._wait_for_next()
            return False
        return True

    def terminate(self, exit_status: int) -> None:
        """End the run at the next boundary, with a checkpoint if it saves any, and then the process.

        Raises:
            StopRun: If no iteration is in progress, so that there may be no further boundary.
        """
        self.exit_status = exit_status
        self.request_stop(checkpoint=self.is_saving)
        if not self._active:
            self.end_now(exit_status)

    def end_now(self, exit_status: int) -> None:
        """End the run and the process here.

        Raises:
            StopRun: Always.
        """
        raise StopRun(is_saved=False, exit_status=exit_status)

    @property
    def unreached(self) -> str:
        """The position that a resumed run has not reached yet, as text; "" once it has."""
        waiting = self._pending or self._pending_ended
        return f"{waiting[-1][0]!r}" if waiting else ""

    def add(self, n: SupportsIndex) -> None:
        """Add `n` to the global step.

        Raises:
            TrackerError: If the sum is no whole number from 0 on.
            CheckpointError: If a resumed run has not come to the place of its checkpoint yet.
        """
        if self._pending or self._pending_ended:
            raise self._lost("trained before it came there")
        self.step = checked_step(self.step + n if hasattr(n, "__index__") else n)  # type: ignore[operator]
        self.activity_count += 1

    @property
    def is_after_loader(self) -> bool:
        """Whether a loader has ended and the rest of its iteration is still to come."""
        return self._is_exhausted or any(self._finished[1 : len(self._active)])

    def positions(self) -> dict[str, Any]:
        """Return the positions of all iterations in progress, as plain data for a checkpoint."""
        last = len(self._active) - 1
        active = [(r.name, r.position(is_innermost=i == last)) for i, r in enumerate(self._active)]
        # only of the iterations that are entered again; the innermost one is complete
        finished = [list(names) for names in self._finished[1 : len(self._active)]]
        return {"active": active, "finished": finished, "ended": list(self._ended)}

    def resume(self, step: int, positions: Mapping[str, Any]) -> None:
        """Set the step, and the positions that the next iterations resume at."""
        self.step = step
        self._pending = list(positions.get("active", ()))
        self._pending_finished = [list(names) for names in positions.get("finished", ())]
        self._pending_ended = list(positions.get("ended", ()))

    def pending(self, name: str) -> dict[str, Any] | None:
        """Return the position that `name` will resume at, None if it starts from the beginning."""
        if self._pending_ended or not self._pending or name in self._pending_here():
            return None
        # the outermost comes first: its like before it, or outside of it, is another one
        next_name, position = self._pending[0]
        return position if next_name == name else None

    def pass_ended(self, name: str, end: int) -> dict[str, Any] | None:
        """Return where a loop ended that is entered again on the way to a checkpoint after it.

        None if the checkpoint was not taken after it. A loop that is not the last one to be passed is
        to be left at once: its position is at its end.

        Args:
            name: of the loop.
            end: the value or step at which it ends now.

        Raises:
            CheckpointError: If it is another loop, or goes on further than then, with others after it.
        """
        if self._active or not self._pending_ended:
            return None
        ended_name, position = self._pending_ended.pop(0)
        if ended_name != name:
            self._pending_ended.insert(0, (ended_name, position))
            raise self._lost(f"came to {name!r} instead")
        if self.unreached:
            self._ended.append((ended_name, position))
            if end > max(position["end"], position["next"]):
                raise CheckpointError(
                    f"the loop {name!r} had ended at {position['end']} before the checkpoint of step "
                    f"{self.step} was taken in what comes after it, and cannot go on to {end} now"
                )
        return position

    def note_end(self, name: str, position: dict[str, Any]) -> None:
        """Record the end position of a loop, for checkpoints saved after it."""
        if not self._active:
            self._ended.append((name, position))

    def skip_finished(self, name: str) -> bool:
        """Return whether `name` was finished at the checkpoint, within the resumed iteration."""
        here = self._pending_here()
        if name not in here:
            return False
        here.remove(name)
        self._finished[-1].append(name)
        return True

    def _pending_here(self) -> list[str]:
        level = len(self._active) - 1
        return self._pending_finished[level] if 0 <= level < len(self._pending_finished) else []

    @contextlib.contextmanager
    def iterating(self, resumable: Resumable) -> Iterator[None]:
        """Include the position of `resumable` in checkpoints while it is iterated.

        Raises:
            CheckpointError: If a resumed run can no longer reach the position of its checkpoint.
        """
        is_next = self.pending(resumable.name) is not None
        if self.unreached and self._active and not is_next:
            raise self._lost(f"came to {resumable.name!r} instead")
        if is_next:
            self._pending.pop(0)
            self._is_entered = True
        if not self._active:
            # what was raised before this loop, and did not keep it from running, is no failure of it
            self.error_before = getattr(sys, "last_value", None)
        self._active.append(resumable)
        self._finished.append([])
        self._is_boundary_saved = False
        try:
            if not self.unreached and self.on_arrival is not None:
                arrive, self.on_arrival = self.on_arrival, None
                self._pending_finished = []
                arrive()
            yield
            if self.unreached and self._is_entered and not self.is_ending:
                raise self._lost("went on without it")
        finally:
            self._active.remove(resumable)
            self._finished.pop()
            self._finished[-1].append(resumable.name)

    def _lost(self, what: str) -> CheckpointError:
        if self.total_steps is not None and self.step >= self.total_steps:
            return CheckpointError(nothing_to_train(self.step, self.total_steps))
        return CheckpointError(
            f"the checkpoint of step {self.step} was taken in {self.unreached}, but the run {what}; was a "
            "loader or a loop renamed or taken out?"
        )

    def start_iteration(self) -> None:
        """Reset the finished loaders at the start of an iteration."""
        self._finished[-1].clear()

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
        """Finish a loop: save a checkpoint after Ctrl-C, and reset `finish_loop`."""
        self._is_finishing = False
        is_wanted = self.is_interrupted and not self.unreached and not self._is_boundary_saved
        if is_wanted and self.save is not None:
            self.save()

    def loop(self, values: range | int) -> Iterator[int]:
        """Yield each value; the global step is at least that value while the body runs.

        A resumed run continues with the next value. Ctrl-C finishes the iteration, saves a checkpoint
        and ends the loop; a second one aborts.
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
        if state.skip_finished(self.name):
            return
        ended = state.pass_ended(self.name, values.stop)
        if state.unreached and ended is not None:
            return
        resumed = state.pending(self.name)
        first = values.start
        if resumed is not None:
            first = resumed["value"]
        elif ended is not None:
            first = ended["next"]
        values = range(first, values.stop, values.step)
        state.total_steps = values.stop
        self._value = next_value = first
        try:
            with catch_interrupts(state), state.iterating(self):
                for value in values:
                    if state.is_ending:
                        break
                    state.start_iteration()
                    self._value = next_value = value
                    state.step = max(state.step, value)
                    yield value
                    tracker.settle()  # metrics of the body belong to this value, not to the next
                    next_value = value + values.step
                    state.step = max(state.step, min(next_value, values.stop))
                    state.boundary()
                state.end_loop()
        finally:
            state.note_end(self.name, {"next": next_value, "end": values.stop})


_current = Loop()
steps.set_source(_current)


def current() -> Loop:
    """Return the current run's loop."""
    return _current


def set_current(loop: Loop) -> None:
    """Make a loop the current one; ``lab_core.experiment`` does this for each run."""
    global _current
    _current = loop
    steps.set_source(loop)


def get_global_step() -> int:
    """Return the global step."""
    return _current.step


def set_global_step(step: SupportsIndex) -> None:
    """Set the global step, an integer of at least 0.

    Raises:
        TrackerError: If it is not.
    """
    # the common case first: this is called at each step
    _current.step = step if type(step) is int and 0 <= step < _MAX_STEP else checked_step(step)


def add_global_step(n: SupportsIndex = 1) -> None:
    """Add `n` to the global step.

    Raises:
        TrackerError: If the sum is no whole number from 0 on.
    """
    _current.add(n)


def loop(values: range | int) -> Iterator[int]:
    """Yield each value, as the global step; see ``Loop.loop``."""
    return _current.loop(values)


def finish_loop() -> None:
    """End the loop after the iteration in progress."""
    _current.finish_loop()


def total_steps() -> int | None:
    """Return the step at which the run ends, None if unknown."""
    return _current.total_steps


def activity() -> None:
    """Increase ``activity_count``, which shows that the run does not hang."""
    _current.activity_count += 1


def activity_count() -> int:
    """Return the activity count, which increases while the run makes progress."""
    return _current.activity_count


def request_stop(checkpoint: bool = True) -> None:
    """Request a stop at the next boundary; from any thread or a signal handler."""
    _current.request_stop(checkpoint)


def request_checkpoint() -> None:
    """Request a checkpoint at the next boundary; from any thread."""
    _current.request_checkpoint()


def boundary() -> None:
    """Mark the boundary between two steps: the run may be saved or stopped here."""
    _current.boundary()
