"""Track a run's metrics: `tracker.add(loss=loss)`, `tracker.save()`.

The functions act on the current run's `Tracker`; each run has its own. Outside of a run, values are
checked and the last ones kept, but nothing is written or shown.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

from lab_core.tracker.indicators import Indicator, Kind
from lab_core.tracker.tracker import Tracker

__all__ = [
    "Indicator",
    "Kind",
    "Tracker",
    "add",
    "current",
    "flush",
    "last_values",
    "namespace",
    "new_line",
    "reset",
    "save",
    "set_current",
    "set_histogram",
    "set_image",
    "set_indexed_scalar",
    "set_queue",
    "set_scalar",
    "set_text",
    "settle",
]

_current = Tracker()


def current() -> Tracker:
    """Return the tracker that the functions of this module act on."""
    return _current


def set_current(tracker: Tracker | None) -> Tracker:
    """Make `tracker` the current one; with None, a new one without writers. Return it."""
    global _current
    _current = tracker if tracker is not None else Tracker()
    return _current


def set_scalar(name: str, is_print: bool = False) -> None:
    """Declare a scalar: each save writes the mean of the values added since the last save."""
    _current.declare(Kind.SCALAR, name, None, is_print)


def set_queue(name: str, queue_size: int = 10, is_print: bool = False) -> None:
    """Declare a queue: each save with new values writes the last `queue_size` values and their mean."""
    _current.declare(Kind.QUEUE, name, queue_size, is_print)


def set_histogram(name: str, queue_size: int | None = None, is_print: bool = False) -> None:
    """Declare a histogram of the values since the last save, or of the last `queue_size` values."""
    _current.declare(Kind.HISTOGRAM, name, queue_size, is_print)


def set_indexed_scalar(name: str) -> None:
    """Declare an indexed scalar: a value for each index, e.g. the loss of each sample."""
    _current.declare(Kind.INDEXED, name)


def set_image(name: str) -> None:
    """Declare images: arrays or tensors HW, CHW, HWC, or batches of them; floats in [0, 1]."""
    _current.declare(Kind.IMAGE, name)


def set_text(name: str, is_print: bool = False) -> None:
    """Declare a text."""
    _current.declare(Kind.TEXT, name, None, is_print)


def add(*args: Any, **named: Any) -> None:
    """Add values: `add(loss=x)`, `add("loss", x)` or `add({"loss": x})`.

    Takes numbers, arrays and tensors. A tensor on a GPU stays there until it is written, without
    synchronisation.

    Raises:
        TrackerError: If a value cannot be tracked; then none is added.
    """
    _current.add(*args, **named)


def save(*args: Any, step: int | None = None, **named: Any) -> None:
    """Write the values added since the last save, and those given: `save([step], ...)`.

    Raises:
        TrackerError: If the step is invalid, or a value cannot be tracked.
    """
    _current.save(*args, step=step, **named)


def namespace(name: str) -> AbstractContextManager[None]:
    """Prefix every name that is used inside with `name.`; namespaces nest."""
    return _current.namespace(name)


def settle() -> None:
    """Mark the end of an iteration: values added but not saved get the current step."""
    _current.settle()


def new_line() -> None:
    """Keep the console's current line, and continue on a new one."""
    _current.new_line()


def last_values() -> dict[str, float]:
    """Return the last saved value of every scalar."""
    return _current.last_values()


def flush(timeout_s: float = 10.0) -> bool:
    """Wait until everything saved is written; return False after `timeout_s`."""
    return _current.flush(timeout_s)


def reset() -> None:
    """Remove all declarations and all values that are not saved."""
    _current.reset()


if hasattr(os, "register_at_fork"):
    # The writer thread does not survive a fork, and the writers belong to the parent.
    os.register_at_fork(after_in_child=lambda: set_current(None) and None)
