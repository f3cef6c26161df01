"""A run of a second that has everything a resumed one could get wrong.

Dropout and noise draw random numbers between the batches, the optimizer has momentum, a queue and a
mean over several steps are tracked, and each epoch ends with a validation that draws some too.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab_core import loop, monit, tracker
from lab_core.experiment import Experiment
from lab_core.helpers.pytorch.loaders import DataSetLoader, TensorLoader
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs

NUM_SAMPLES = 50
EPOCHS = 3
BATCH_SIZE = 8
STEPS_PER_EPOCH = 7  # the last batch is a smaller one
NUM_STEPS = EPOCHS * STEPS_PER_EPOCH


class NoisySet:
    """A data set whose samples draw random numbers when they are made."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index] + torch.randn(4) * 0.1, self.targets[index]


class Tiny:
    """Trains, and keeps which samples it saw at which step."""

    def __init__(self, c: Configs) -> None:
        self.c = c
        self.seen: dict[int, list[float]] = {}
        self.after_step: Callable[[int], object] = lambda step: None
        self.after_epoch: Callable[[int], object] = lambda step: None
        self.model, self.optimizer = c.model, c.optimizer
        self.train_loader, self.training_loop = c.train_loader, c.training_loop

    def __call__(self) -> None:
        tracker.set_queue("recent", 5)
        for _ in self.training_loop:
            self.train()
            self.validate()
            self.after_epoch(loop.get_global_step())

    def train(self) -> None:
        self.model.train()
        for i, (inputs, targets) in monit.enum("Train", self.train_loader, is_silent=True):
            self.optimizer.zero_grad()
            loss = (self.model(inputs).squeeze(1) - targets / NUM_SAMPLES).square().mean()
            loss = loss * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()))
            loss.backward()
            self.optimizer.step()
            loop.add_global_step()
            step = loop.get_global_step()
            self.seen[step] = targets.tolist()
            tracker.add(mean_loss=loss, recent=loss)
            tracker.save(train_loss=loss) if i % 3 == 0 else None
            self.after_step(step)

    def validate(self) -> None:
        self.model.eval()
        with torch.no_grad():
            noise = torch.randn(8, 4)
            tracker.save(valid=self.model(noise).mean())


class Configs(TrainingLoopConfigs, SeedConfigs):
    loop_count = NUM_STEPS
    loop_step = STEPS_PER_EPOCH
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train_loader: TensorLoader | DataSetLoader
    main: Tiny


@Configs.calc(Configs.model)
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Linear(16, 1))


@Configs.calc(Configs.optimizer)
def sgd(c: Configs) -> torch.optim.Optimizer:
    return torch.optim.SGD(c.model.parameters(), lr=0.05, momentum=0.9)


@Configs.calc(Configs.optimizer)
def adam(c: Configs) -> torch.optim.Optimizer:
    return torch.optim.Adam(c.model.parameters(), lr=0.01)


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.arange(NUM_SAMPLES, dtype=torch.float32)
    return torch.randn(NUM_SAMPLES, 4, generator=generator), targets


@Configs.calc(Configs.train_loader)
def resident() -> TensorLoader:
    return TensorLoader(*_data(), batch_size=BATCH_SIZE, shuffle=True, name="train_loader")


@Configs.calc(Configs.train_loader)
def data_loader() -> DataSetLoader:
    data = NoisySet(*_data())
    return DataSetLoader(data, batch_size=BATCH_SIZE, shuffle=True, name="train_loader")


def make(
    folder: Path, run_id: str, overrides: dict[str, Any] | None = None, **options: Any
) -> tuple[Experiment, Configs]:
    """Return an experiment with its configs computed, yet to be started."""
    experiment = Experiment(
        "tiny",
        writers={"sqlite"},
        run_id=run_id,
        folder=folder / run_id,
        console=False,
        is_code_recorded=False,
        **options,
    )
    conf: Configs = experiment.calculate_configs(Configs(), overrides, ["set_seed", "main"])
    return experiment, conf


def scalars(experiment: Experiment) -> list[tuple[Any, ...]]:
    """Return what a run's database has, times left out."""
    with sqlite3.connect(experiment.folder / "sqlite.db") as db:
        rows = db.execute("SELECT indicator, step, value FROM scalars ORDER BY step, indicator")
        return rows.fetchall()


def state(conf: Configs) -> dict[str, Any]:
    """Return the weights and the optimizer's state as plain, comparable data."""
    return {
        "model": {name: value.tolist() for name, value in conf.model.state_dict().items()},
        "optimizer": _plain(conf.optimizer.state_dict()),
    }


def scramble() -> None:
    """Leave every random number generator in another state than a run expects."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
