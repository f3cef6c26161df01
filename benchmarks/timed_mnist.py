"""The bundled experiment with one metric more: the time at which each step was saved, seconds since 1970.

What a client receives less this is the delay from step to client. Served by `--experiments`.
"""

from __future__ import annotations

import time

from torch.nn import functional as F

from lab_core import loop, monit, tracker
from lab_server.experiments import mnist

EXPERIMENTS: dict[str, type[mnist.Configs]] = {}


class TimedMNIST(mnist.MNIST):
    """Saves `saved_at` beside `train_loss`."""

    def train(self) -> None:
        self.model.train()
        for _, (data, target) in monit.enum("Train", self.train_loader):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(data), target)
            loss.backward()
            self.optimizer.step()
            loop.add_global_step()
            tracker.save(train_loss=loss, saved_at=time.time())


class Configs(mnist.Configs):
    """As the bundled one."""

    main: TimedMNIST


EXPERIMENTS["timed_mnist"] = Configs
