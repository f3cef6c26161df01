"""A run of very many steps that do little, for benchmarks/growth.py: what it costs is what the service costs."""

from __future__ import annotations

import time

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs


class Configs(BaseConfigs):
    """A long run."""

    # how many steps it has
    num_steps: int = 1_000_000
    # seconds of a step
    step_s: float = 0.0

    def run(self) -> None:
        """Save two metrics at each step."""
        for step in loop.loop(self.num_steps):
            tracker.save(loss=1 / (step + 1), accuracy=step / self.num_steps)
            if self.step_s:
                time.sleep(self.step_s)
