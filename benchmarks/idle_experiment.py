"""A run that tells some metrics once and then does nothing, until it is stopped. For benchmarks/scrape.py."""

from __future__ import annotations

import time

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs


class Configs(BaseConfigs):
    """An idle run."""

    # how many metrics it has
    num_metrics: int = 20

    def run(self) -> None:
        """Tell the metrics, and wait for the stop."""
        tracker.save(1, {f"metric.{index}": 0.5 for index in range(self.num_metrics)})
        for _ in loop.loop(1_000_000):
            time.sleep(0.5)
