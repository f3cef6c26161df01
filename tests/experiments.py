"""Small experiments for tests of the service; they need no data and hardly any time."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs


class Counting(BaseConfigs):
    """Counts its steps."""

    # How many steps.
    steps: Annotated[int, Ge(0)] = 20
    # Seconds that a step takes.
    step_s: Annotated[float, Ge(0)] = 0.0

    def run(self) -> None:
        """Record two metrics a step and print a line now and then."""
        import time

        for step in loop.loop(self.steps):
            tracker.save({"loss": 1.0 / (1 + step), "accuracy": step / max(1, self.steps)})
            if step % 10 == 0:
                print(f"step {step}", flush=True)
            time.sleep(self.step_s)


class Raises(BaseConfigs):
    """Raises while it trains."""

    def run(self) -> None:
        """Divide by zero."""
        tracker.save(0, {"loss": 1.0})
        print(1 // 0)


EXPERIMENTS = {"counting": Counting, "raises": Raises}
