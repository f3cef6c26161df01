"""An experiment that tracks images, texts, histograms and indexed values."""

from __future__ import annotations

import torch

from lab_core import loop, tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Painted(TrainingLoopConfigs):
    """Tracks a gradient that turns, a note, and random weights."""

    loop_count: int = 3
    log_new_line_interval: int = 1000

    def run(self) -> None:
        """Track them at each step."""
        tracker.set_image("samples")
        tracker.set_text("note")
        tracker.set_histogram("weights")
        tracker.set_indexed_scalar("sample_loss")
        side = torch.linspace(0, 1, 28)
        for _ in self.training_loop:
            loop.add_global_step()
            step = loop.get_global_step()
            images_NHW = torch.stack([(side * k + side[:, None] * step) % 1 for k in range(4)])
            tracker.add("samples", images_NHW[:, None])
            tracker.add("note", f"note of step {step}")
            tracker.add("weights", torch.randn(1000) * step)
            tracker.add("sample_loss", list(enumerate((torch.rand(200) / step).tolist())))
            tracker.save(loss=1 / step)


EXPERIMENTS = {"painted": Painted}
