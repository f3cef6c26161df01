"""A run that makes so many events a second and computes nothing, until it is stopped. For benchmarks/events.py."""

from __future__ import annotations

import time

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs


class Configs(BaseConfigs):
    """A run of evenly spaced events."""

    # of metrics, a second; 0 for none after the first
    events_per_s: float = 5.0
    # steps in each event
    num_steps: int = 25

    def run(self) -> None:
        """Save some steps and have them written at once, over and over."""
        pause_s = 1 / self.events_per_s if self.events_per_s else 0.5
        due_s = time.monotonic()
        for step in loop.loop(1_000_000_000):
            if self.events_per_s or not step:
                tracker.save(train_loss=0.5, saved_at=time.time())
            if self.events_per_s and step % self.num_steps:
                continue
            if self.events_per_s or not step:
                tracker.flush()
            due_s = max(due_s + pause_s, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))
