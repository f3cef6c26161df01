"""A training of many choices: whichever are taken, a resumed run must end as one that nobody stopped."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from lab_core import loop
from lab_core.experiment import Experiment
from lab_core.helpers.pytorch.loaders import DataSetLoader, TensorLoader
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs

EPOCHS = 4
STEPS_PER_EPOCH = 5
NUM_STEPS = EPOCHS * STEPS_PER_EPOCH
BATCH_SIZE = 8
NUM_SAMPLES = BATCH_SIZE * STEPS_PER_EPOCH


class Configs(TrainingLoopConfigs, SeedConfigs):
    loop_count = NUM_STEPS
    loop_step = STEPS_PER_EPOCH
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0
    gamma: float = 0.8
    warmup: int = 6
    hidden: int = 8
    batch_size: int = BATCH_SIZE
    amsgrad: bool = False
    samples: TensorDataset
    parts: list[Subset[Any]]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    scaler: torch.amp.GradScaler
    train_loader: Any

    # called after each step
    after_step: Callable[[int], object] = lambda step: None

    def run(self) -> None:
        """Read each item where it is needed first."""
        noise = torch.rand(())  # code outside of items draws numbers too
        for _ in self.training_loop:
            self.model.train()
            for inputs, targets in self.train_loader:
                self.optimizer.zero_grad()
                loss = (self.model(inputs) - targets).square().mean() + noise
                self.scaler.scale(loss * (1 + random.random() + float(np.random.rand()))).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self._step_scheduler(loss)
                loop.add_global_step()
                self.after_step(loop.get_global_step())
            self.model.eval()
            with torch.no_grad():
                self.model(torch.randn(BATCH_SIZE, 3))

    def _step_scheduler(self, loss: Tensor) -> None:
        if isinstance(self.scheduler, schedulers.ReduceLROnPlateau):
            self.scheduler.step(loss.detach())
        else:
            self.scheduler.step()


@Configs.calc(Configs.samples)
def draw_samples() -> TensorDataset:
    inputs = torch.randn(NUM_SAMPLES + 8, 3)
    return TensorDataset(inputs, inputs.sum(1, keepdim=True))


@Configs.calc(Configs.parts)
def split(c: Configs) -> list[Subset[Any]]:
    return random_split(c.samples, [NUM_SAMPLES, 8])


@Configs.calc(Configs.model)
def network(c: Configs) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, c.hidden), nn.BatchNorm1d(c.hidden), nn.Dropout(0.2), nn.Linear(c.hidden, 1)
    )


@Configs.calc(Configs.optimizer)
def sgd(c: Configs) -> torch.optim.Optimizer:
    parameters = c.model.parameters()
    return torch.optim.SGD(
        parameters, lr=c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay
    )


@Configs.calc(Configs.optimizer)
def adam(c: Configs) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        c.model.parameters(),
        lr=c.learning_rate,
        betas=(c.momentum, 0.99),
        weight_decay=c.weight_decay,
        amsgrad=c.amsgrad,
    )


@Configs.calc(Configs.scaler)
def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)


@Configs.calc(Configs.train_loader)
def resident(c: Configs) -> TensorLoader:
    (inputs, targets), part = c.samples.tensors, c.parts[0].indices
    return TensorLoader(
        inputs[part], targets[part], batch_size=c.batch_size, shuffle=True, name="train_loader"
    )


@Configs.calc(Configs.train_loader)
def data_set(c: Configs) -> DataSetLoader:
    return DataSetLoader(c.parts[0], batch_size=c.batch_size, shuffle=True, name="train_loader")


@Configs.calc(Configs.train_loader)
def plain(c: Configs) -> DataLoader[Any]:
    part: Dataset[Any] = c.parts[0]
    return DataLoader(part, batch_size=c.batch_size, shuffle=True)


@Configs.calc(Configs.train_loader)
def plain_workers(c: Configs) -> DataLoader[Any]:
    return DataLoader(c.parts[0], batch_size=c.batch_size, shuffle=True, num_workers=2)


SCHEDULERS: dict[str, Callable[[Configs], Any]] = {
    "step": lambda c: schedulers.StepLR(c.optimizer, 3, c.gamma),
    "multi_step": lambda c: schedulers.MultiStepLR(c.optimizer, [c.warmup, 12], c.gamma),
    "constant": lambda c: schedulers.ConstantLR(c.optimizer, 0.5, c.warmup),
    "linear": lambda c: schedulers.LinearLR(c.optimizer, 0.1, 1.0, c.warmup),
    "exponential": lambda c: schedulers.ExponentialLR(c.optimizer, c.gamma),
    "polynomial": lambda c: schedulers.PolynomialLR(c.optimizer, NUM_STEPS, 2.0),
    "lambda": lambda c: schedulers.LambdaLR(c.optimizer, lambda step: min(1.0, step / c.warmup)),
    "multiplicative": lambda c: schedulers.MultiplicativeLR(c.optimizer, lambda step: c.gamma),
    "cosine": lambda c: schedulers.CosineAnnealingLR(c.optimizer, NUM_STEPS),
    "warm_restarts": lambda c: schedulers.CosineAnnealingWarmRestarts(c.optimizer, c.warmup),
    "one_cycle": lambda c: schedulers.OneCycleLR(
        c.optimizer, c.learning_rate, total_steps=NUM_STEPS + 10
    ),
    "cyclic": lambda c: schedulers.CyclicLR(
        c.optimizer, c.learning_rate / 10, c.learning_rate, c.warmup, cycle_momentum=False
    ),
    "sequential": lambda c: schedulers.SequentialLR(
        c.optimizer,
        [
            schedulers.LinearLR(c.optimizer, 0.1, 1.0, c.warmup),
            schedulers.ExponentialLR(c.optimizer, c.gamma),
        ],
        milestones=[c.warmup],
    ),
    "chained": lambda c: schedulers.ChainedScheduler(
        [
            schedulers.ConstantLR(c.optimizer, 0.5, c.warmup),
            schedulers.ExponentialLR(c.optimizer, c.gamma),
        ]
    ),
    "plateau": lambda c: schedulers.ReduceLROnPlateau(c.optimizer, factor=c.gamma, patience=1),
}
for _name, _make in SCHEDULERS.items():

    def _scheduler(c: Configs, make: Callable[[Configs], Any] = _make) -> Any:
        return make(c)

    Configs.calc(Configs.scheduler, _name)(_scheduler)

RUN_ORDERS = {
    "all": [
        *("set_seed", "samples", "parts", "model", "optimizer", "scheduler", "scaler"),
        *("train_loader", "training_loop"),
    ],
    "some": ["set_seed", "model", "optimizer"],
    "only set_seed": ["set_seed"],
}


def make(
    folder: Path,
    overrides: dict[str, Any],
    run_order: list[str],
    *,
    before: Callable[[Experiment], object] = lambda experiment: None,
    **options: Any,
) -> tuple[Experiment, Configs]:
    """Return a run whose configs are calculated; `before` is called with it before that."""
    experiment = Experiment(
        "training",
        writers=(),
        run_id=folder.name,
        folder=folder,
        console=False,
        is_code_recorded=False,
        **options,
    )
    before(experiment)
    return experiment, experiment.calculate_configs(Configs(), overrides, run_order)


def train(experiment: Experiment, conf: Configs) -> dict[str, Any]:
    """Run it, and return all that it has become."""
    with experiment.start():
        conf.run()
    return state(conf)


def state(conf: Configs) -> dict[str, Any]:
    """Return all that training has changed, and the data, as comparable data."""
    stateful = ("model", "optimizer", "scheduler", "scaler")
    return {
        **{name: plain_data(getattr(conf, name).state_dict()) for name in stateful},
        "samples": plain_data(conf.samples.tensors),
        "parts": [list(part.indices) for part in conf.parts],
        "random": [random.random(), float(np.random.rand()), float(torch.rand(()))],
    }


def scramble() -> None:
    """Leave every random number generator in another state than a run expects."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


def plain_data(value: Any) -> Any:
    """Return a state dict as lists and numbers; functions by their names."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    return getattr(value, "__qualname__", value)
