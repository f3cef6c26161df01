"""Small experiments for tests of the service; they need no data and hardly any time."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from lab_core import experiment, loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs


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


class Valley(TrainingLoopConfigs):
    """Comes down to (x - 0.3)^2, the faster the larger its rate; checkpoints hold where it is."""

    x: float = 0.0
    rate: Annotated[float, Gt(0)] = 0.1
    loop_count: int = 27
    checkpoint_interval: int | None = None
    log_new_line_interval: int = 1000

    def run(self) -> None:
        """Record the loss at each step."""
        for _ in self.training_loop:
            loop.add_global_step()
            step = loop.get_global_step()
            tracker.save(loss=(self.x - 0.3) ** 2 + 1 / (1 + self.rate * step))


class Saves(BaseConfigs):
    """Saves a file of its own."""

    def run(self) -> None:
        """Save it, and end."""
        experiment.save_artifact("plots/one.txt", b"mine")


class Raises(BaseConfigs):
    """Raises while it trains."""

    def run(self) -> None:
        """Divide by zero."""
        tracker.save(0, {"loss": 1.0})
        print(1 // 0)


EXPERIMENTS = {"counting": Counting, "raises": Raises, "saves": Saves, "valley": Valley}
