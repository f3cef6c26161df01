"""The seam between a pool and the engine that runs its agents: jobs that are submitted, seen, and cancelled."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lab_core.errors import LabError


class EngineError(LabError):
    """An engine does not do what it was asked for; the sentence says why."""


class JobState(enum.Enum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Job:
    """An agent's job, as its engine sees it.

    Attributes:
        reason: what the engine says about it: why it waits, or how it ended.
        has_failed: it ended, and not by itself.
    """

    state: JobState
    reason: str = ""
    has_failed: bool = False


class Engine(Protocol):
    """Starts agents as jobs, each by the agent's name."""

    async def submit(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Submit a job; the same name again is the same job.

        Raises:
            EngineError: If the engine is away, or refuses it.
        """

    async def jobs(self, prefix: str) -> Mapping[str, Job]:
        """Return the jobs whose names begin so, by name; an ended one may be missing.

        Raises:
            EngineError: If the engine is away.
        """

    async def cancel(self, name: str) -> None:
        """End a job that waits or runs.

        Raises:
            EngineError: If the engine is away.
        """

    async def close(self) -> None:
        """Close its connections."""
