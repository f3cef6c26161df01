"""A run with a long log that goes on measuring until it is stopped. For benchmarks/watchers.py."""

from __future__ import annotations

import time

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs


class Configs(BaseConfigs):
    """A run to watch."""

    # kilobytes that it prints before it measures
    printed_kb: int = 4000
    # seconds of a step
    step_s: float = 0.02
    # additions of a step
    work: int = 0

    def run(self) -> None:
        """Print, then measure until it is stopped."""
        for _ in range(self.printed_kb):
            print("x" * 999)
        for _ in loop.loop(1_000_000_000):
            total = 0
            for number in range(self.work):
                total += number
            tracker.save(loss=0.5, accuracy=0.5)
            if self.step_s:
                time.sleep(self.step_s)
