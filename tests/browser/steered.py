"""An experiment whose pace and level a test changes while it trains."""

from __future__ import annotations

import math
import time
from pathlib import Path

from lab_core import loop, tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Steered(TrainingLoopConfigs):
    """Records the level that stands in a file."""

    # The file: the level, and how many seconds a step takes.
    file: str = ""
    loop_count: int = 400
    log_new_line_interval: int = 1000

    def run(self) -> None:
        """Record it at each step; at step 7 what is no number, and below zero a text too."""
        tracker.set_text("note")
        for _ in self.training_loop:
            level, pace_s = map(float, Path(self.file).read_text().split())
            loop.add_global_step()
            step = loop.get_global_step()
            if level < 0:
                tracker.add("note", f"note of step {step}")
            tracker.save(loss=level, odd=math.nan if step == 7 else 1.0)
            print(f"line {step}", flush=True)
            time.sleep(pace_s)


EXPERIMENTS = {"steered": Steered}
