"""The supervisor's limits and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab_server.model.media import MediaLimits


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """Limits and times. A run's own max_retries takes precedence; its max_runtime_s can only be lower.

    Attributes:
        queue_limit: how many runs may wait.
        max_retries: how often a run is retried after its trainer died.
        max_runtime_s: how long a run may train, 0 for no limit.
        grace_s: how long a run may take to stop by itself.
        term_grace_s: how long it may take after SIGTERM, before SIGKILL.
        stall_timeout_s: how long a trainer may make no progress before it is killed.
        poll_s: interval at which spools are polled where their trainers cannot be heard.
        usage_interval_s: interval at which trainers record what they use; 0 for never.
        media: how much of a run's images, texts, histograms and indexed values its log takes.
    """

    queue_limit: int = 1000
    max_retries: int = 2
    max_runtime_s: float = 0.0
    grace_s: float = 10.0
    term_grace_s: float = 2.0
    stall_timeout_s: float = 600.0
    poll_s: float = 0.02
    usage_interval_s: float = 0.0
    media: MediaLimits = field(default_factory=MediaLimits)
