"""The tracker's source of the global step: a loop registers here, so that none is imported."""

from __future__ import annotations

from typing import Protocol


class StepSource(Protocol):
    """Counts the steps of a run: its loop.

    Attributes:
        step: the global step.
        activity_count: increases whenever the run makes progress.
    """

    step: int
    activity_count: int


class _NoLoop:
    """Used while no loop is imported: the step is always 0."""

    def __init__(self) -> None:
        self.step = 0
        self.activity_count = 0


_source: StepSource = _NoLoop()


def set_source(source: StepSource) -> None:
    """Read steps from `source` from now on."""
    global _source
    _source = source


def global_step() -> int:
    """Return the global step."""
    return _source.step


def activity() -> None:
    """Count progress, so that a hanging training can be detected."""
    _source.activity_count += 1
