"""What can be set about the supervision of runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """Limits and times; a run's own options come before max_retries, and may only lower max_runtime_s.

    Attributes:
        queue_limit: how many runs may wait.
        max_retries: how often a run is tried again after its trainer died.
        max_runtime_s: how long a run may train, 0 for no limit.
        grace_s: how long a run may take to stop by itself.
        term_grace_s: how long it may take after SIGTERM, before SIGKILL.
        stall_timeout_s: how long a trainer may show no sign of life.
        poll_s: the time between two looks at a spool.
    """

    queue_limit: int = 1000
    max_retries: int = 2
    max_runtime_s: float = 0.0
    grace_s: float = 10.0
    term_grace_s: float = 2.0
    stall_timeout_s: float = 600.0
    poll_s: float = 0.02
