"""The global step, and the boundaries between steps, where a run can be saved or stopped.

The state is in the current ``Loop`` object; ``lab_core.experiment`` sets a new one for each run. The
thread that runs the training code owns it; other threads may only call
``request_stop`` and ``request_checkpoint`` and read the counters.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import SupportsIndex

from lab_core.errors import LabError
from lab_core.loop._loop import Loop, StopRun
from lab_core.loop._place import Resumable, nothing_to_train
from lab_core.loop._range_loop import RangeLoop
from lab_core.tracker import steps
from lab_core.tracker.forms import checked_step

__all__ = [
    "Loop",
    "Resumable",
    "StopRun",
    "activity",
    "activity_count",
    "add_global_step",
    "boundary",
    "current",
    "finish_loop",
    "get_global_step",
    "loop",
    "nothing_to_train",
    "request_checkpoint",
    "request_stop",
    "set_current",
    "set_global_step",
    "total_steps",
]

_MAX_STEP = 2**63

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


def loop(values: range | SupportsIndex) -> Iterator[int]:
    """Yield each value; the global step is at least that value while the body runs.

    A resumed run continues with the next value. Ctrl-C finishes the iteration, saves a checkpoint
    and ends the loop; a second one aborts.

    Raises:
        LabError: If it is neither a rising range nor a whole number.
    """
    return RangeLoop(_current, _rising(values)).run()


def _rising(values: object) -> range:
    if hasattr(values, "__index__") and not isinstance(values, bool):
        return range(operator.index(values))
    if not isinstance(values, range):
        raise LabError(f"loop.loop takes a range or a number of steps, got {values!r}")
    if values.step < 0:
        raise LabError(f"loop.loop counts up, as the global step does; got {values!r}")
    return values


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
