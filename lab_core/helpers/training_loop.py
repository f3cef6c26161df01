"""The training loop: iterations of so many steps, with logs and checkpoints between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from annotated_types import Ge

from lab_core import loop, tracker
from lab_core._interrupts import catch_interrupts
from lab_core.configs import BaseConfigs
from lab_core.errors import LabError

__all__ = ["TrainingLoop", "TrainingLoopConfigs"]


class TrainingLoop:
    """Iterate ``range(global step, loop_count, loop_step)``, yielding the step at each start.

    A resumable loader in the body ends when the global step is at `loop_count`, so that a last iteration
    of fewer steps does not pass it.

    After each iteration, unsaved tracked values are saved, and a checkpoint if one is due. The first
    Ctrl-C finishes the iteration, saves and ends the loop; a second one aborts. A run resumed from a
    checkpoint re-enters the iteration that was in progress.

    Args:
        loop_count: the global step at which to end.
        loop_step: steps of one iteration.
        is_save_models: whether to save checkpoints between iterations.
        log_new_line_interval: steps between new lines on the console.
        log_write_interval: steps between saves of the tracked metrics.
        save_models_interval: steps between checkpoints.
        is_loop_on_interrupt: whether to finish the iteration on Ctrl-C.
        checkpoint_interval: steps between checkpoints inside iterations; None for none.
    """

    name = "training_loop"

    def __init__(
        self,
        *,
        loop_count: int,
        loop_step: int = 1,
        is_save_models: bool = False,
        log_new_line_interval: int = 1,
        log_write_interval: int = 1,
        save_models_interval: int = 1,
        is_loop_on_interrupt: bool = True,
        checkpoint_interval: int | None = None,
    ) -> None:
        _check_steps(
            loop_step=loop_step,
            log_new_line_interval=log_new_line_interval,
            log_write_interval=log_write_interval,
            save_models_interval=save_models_interval,
        )
        self.loop_count = loop_count
        self.loop_step = loop_step
        self.is_save_models = is_save_models
        self.log_new_line_interval = log_new_line_interval
        self.log_write_interval = log_write_interval
        self.save_models_interval = save_models_interval
        self.is_loop_on_interrupt = is_loop_on_interrupt
        self.checkpoint_interval = checkpoint_interval
        self._start = 0
        self._is_counted = True

    def __iter__(self) -> Iterator[int]:
        state = loop.current()
        place = state.place
        if place.skip_finished(self.name):
            return
        ended = place.pass_ended(self.name, self.loop_count)
        if place.unreached and ended is not None:
            return
        resumed = place.pending(self.name)
        self._start = state.step if resumed is None else resumed["start"]
        # an iteration of another length than when it began ends where its body ends
        self._is_counted = (resumed or {}).get("loop_step", self.loop_step) == self.loop_step
        state.total_steps = self.loop_count
        state.is_saving = state.is_saving or self.is_save_models
        if self.checkpoint_interval is not None:
            state.save_every(self.checkpoint_interval)
        outer_end, state.end_step = state.end_step, self.loop_count
        try:
            with (
                catch_interrupts(state, enabled=self.is_loop_on_interrupt),
                state.iterating(self),
            ):
                while self._start < self.loop_count and not state.is_ending:
                    place.start_iteration()
                    yield self._start
                    self._end_iteration(state)
                state.end_loop()
        finally:
            state.end_step = outer_end
            place.note_end(self.name, {"next": state.step, "end": self.loop_count})

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return the start of the iteration to resume; the global step is the position within it."""
        if is_innermost:  # the next iteration, which has not begun
            return {"start": loop.get_global_step()}
        return {"start": self._start, "loop_step": self.loop_step}

    def is_interval(self, interval: int) -> bool:
        """Whether a multiple of `interval` was passed since the iteration started."""
        return loop.get_global_step() // interval > self._start // interval

    def _end_iteration(self, state: loop.Loop) -> None:
        tracker.settle()  # what was measured belongs to the step reached, not to the next start
        if self._is_counted:
            state.step = max(state.step, min(self._start + self.loop_step, self.loop_count))
        self._is_counted = True
        if self.is_interval(self.log_write_interval):
            tracker.save()
        if self.is_interval(self.log_new_line_interval):
            tracker.new_line()
        is_saved = self.is_save_models and self.is_interval(self.save_models_interval)
        self._start = state.step
        if is_saved:
            state.request_checkpoint()
        state.boundary()


def _check_steps(**steps: int) -> None:
    for name, number in steps.items():
        if number < 1:
            raise LabError(f"{name} must be at least 1, got {number!r}: is there no data?")


class TrainingLoopConfigs(BaseConfigs):
    """The training loop and its settings; `training_loop` is the item to iterate."""

    # the global step at which the training ends
    loop_count: Annotated[int, Ge(0)] = 10
    # steps of one iteration
    loop_step: Annotated[int, Ge(1)] = 1
    # save checkpoints between iterations
    is_save_models: bool = False
    # steps between new lines on the console
    log_new_line_interval: Annotated[int, Ge(1)] = 1
    # steps between saves of the tracked metrics
    log_write_interval: Annotated[int, Ge(1)] = 1
    # steps between checkpoints, which are saved between iterations
    save_models_interval: Annotated[int, Ge(1)] = 1
    # finish the iteration on Ctrl-C
    is_loop_on_interrupt: bool = True
    # steps between checkpoints saved inside iterations; none unless set
    checkpoint_interval: Annotated[int, Ge(1)] | None = None
    # the iterations, yielding the step at which each starts
    training_loop: TrainingLoop


@TrainingLoopConfigs.calc(TrainingLoopConfigs.training_loop)
def simple_training_loop(c: TrainingLoopConfigs) -> TrainingLoop:
    return TrainingLoop(
        loop_count=c.loop_count,
        loop_step=c.loop_step,
        is_save_models=c.is_save_models,
        log_new_line_interval=c.log_new_line_interval,
        log_write_interval=c.log_write_interval,
        save_models_interval=c.save_models_interval,
        is_loop_on_interrupt=c.is_loop_on_interrupt,
        checkpoint_interval=c.checkpoint_interval,
    )


TrainingLoopConfigs.set_hyperparams(
    TrainingLoopConfigs.is_save_models,
    TrainingLoopConfigs.log_new_line_interval,
    TrainingLoopConfigs.log_write_interval,
    TrainingLoopConfigs.save_models_interval,
    TrainingLoopConfigs.is_loop_on_interrupt,
    TrainingLoopConfigs.checkpoint_interval,
    is_hyperparam=False,
)
