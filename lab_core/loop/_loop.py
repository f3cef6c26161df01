"""The step of one run, and the boundaries between its steps, where it can be saved or stopped."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

from lab_core import logger, tracker
from lab_core.errors import CheckpointError
from lab_core.loop._place import Place, Resumable
from lab_core.tracker.forms import checked_step


class StopRun(SystemExit):  # if not caught, it ends a script without a traceback
    """Raised between two steps after a request to stop the run.

    Attributes:
        is_saved: a checkpoint was saved at this step: the run can be resumed from here.
        code: the exit status of the process; None if only the run ends.
    """

    def __init__(self, is_saved: bool = False, exit_status: int | None = None) -> None:
        super().__init__(*(() if exit_status is None else (exit_status,)))
        self.is_saved = is_saved


class Loop:
    """The step of one run, and what is to be done at the next boundary.

    Attributes:
        step: the global step.
        total_steps: the step at which the run ends; None if unknown.
        place: where the run is in its loops and loaders.
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
        self.place = Place(self)
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
        place = self.place
        if place.unreached and place.is_entered:
            raise place.lost("went on without it")
        tracker.settle()
        if place.unreached:
            # no new checkpoint: the state is not completely restored yet
            if self._stop_with_checkpoint is not None:
                raise StopRun(False, self.exit_status)
            return
        is_due = self.step >= self.checkpoint_at or self._is_checkpoint_requested
        is_saved = False
        is_within = exhausted and place.depth > 1
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
        if not self.place.depth:
            self.end_now(exit_status)

    def end_now(self, exit_status: int) -> None:
        """End the run and the process here.

        Raises:
            StopRun: Always.
        """
        raise StopRun(is_saved=False, exit_status=exit_status)

    def add(self, n: SupportsIndex) -> None:
        """Add `n` to the global step.

        Raises:
            TrackerError: If the sum is no whole number from 0 on.
            CheckpointError: If a resumed run has not come to the place of its checkpoint yet.
        """
        if self.place.unreached:
            raise self.place.lost("trained before it came there")
        self.step = checked_step(self.step + n if hasattr(n, "__index__") else n)  # type: ignore[operator]
        self.activity_count += 1

    @property
    def is_after_loader(self) -> bool:
        """Whether a loader has ended and the rest of its iteration is still to come."""
        return self._is_exhausted or self.place.has_finished_loader

    def resume(self, step: int, positions: Mapping[str, Any]) -> None:
        """Set the step, and the positions that the next iterations resume at."""
        self.step = step
        self.place.resume(positions)

    @contextlib.contextmanager
    def iterating(self, resumable: Resumable) -> Iterator[None]:
        """Include the position of `resumable` in checkpoints while it is iterated.

        Raises:
            CheckpointError: If a resumed run can no longer reach the position of its checkpoint.
        """
        place = self.place
        is_outermost = not place.depth
        place.enter(resumable)
        if is_outermost:
            # what was raised before this loop, and did not keep it from running, is no failure of it
            self.error_before = getattr(sys, "last_value", None)
        self._is_boundary_saved = False
        try:
            if not place.unreached and self.on_arrival is not None:
                arrive, self.on_arrival = self.on_arrival, None
                place.arrive()
                arrive()
            yield
            if place.unreached and place.is_entered and not self.is_ending:
                raise place.lost("went on without it")
        finally:
            place.leave(resumable)

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
        is_wanted = self.is_interrupted and not self.place.unreached and not self._is_boundary_saved
        if is_wanted and self.save is not None:
            self.save()
