"""A fork before it is a run: which checkpoint it starts from, and where it would end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab_core.errors import Violation


@dataclass(frozen=True, slots=True)
class ForkSource:
    """A checkpoint of another run.

    Attributes:
        checkpoints: the folder of that run's checkpoints.
        step: of the checkpoint.
    """

    checkpoints: Path
    step: int


@dataclass(frozen=True, slots=True)
class ForkTrial:
    """Whether a fork's configs fit its checkpoint.

    Attributes:
        violations: what does not.
        total_steps: the global step at which it would end, None if nobody knows before it trains.
        unknown: why it could not be tried, "" if it was.
    """

    violations: tuple[Violation, ...] = ()
    total_steps: int | None = None
    unknown: str = ""
