"""A training by TrainValidConfigs on random numbers, for tests of what it can be told to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab_core import loop
from lab_core.experiment import Experiment
from lab_core.helpers.pytorch.device import DeviceConfigs
from lab_core.helpers.pytorch.loaders import TensorLoader
from lab_core.helpers.pytorch.optimizer import OptimizerConfigs
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.pytorch.train_valid import LossFunction, TrainValidConfigs
from lab_core.writers import MemoryWriter

BATCHES = 7
EPOCHS = 4
NUM_STEPS = BATCHES * EPOCHS


class Configs(TrainValidConfigs, OptimizerConfigs, DeviceConfigs, SeedConfigs):
    epochs = EPOCHS
    use_cuda = False
    momentum = 0.9
    learning_rate = 0.1
    train_log_interval = 1
    batch_size: int = 8
    # called with the step after each batch
    after_step: Callable[[int], object] = lambda step: None


@Configs.calc(Configs.model)
def network() -> nn.Module:
    # each layer has its own way to depend on what was not restored
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))


@Configs.calc(Configs.parameters)
def all_parameters(c: Configs) -> list[nn.Parameter]:
    return list(c.model.parameters())


@Configs.calc(Configs.train_loader)
def train_data(c: Configs) -> TensorLoader:
    inputs, targets = _data(BATCHES * 8 - 3)
    name = "train_loader"
    return TensorLoader(inputs, targets, batch_size=c.batch_size, shuffle=True, name=name)


@Configs.calc(Configs.valid_loader)
def valid_data() -> TensorLoader:
    return TensorLoader(*_data(20), batch_size=16)


@Configs.calc(Configs.loss_func)
def noted_loss(c: Configs) -> LossFunction:
    def loss_func(output: Tensor, target: Tensor) -> Tensor:
        if output.requires_grad:
            c.after_step(loop.get_global_step() + 1)
        return nn.functional.cross_entropy(output, target)

    return loss_func


def _data(num: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num)
    inputs = torch.randn(num, 4, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


class Run:
    """A run, from its start to its end."""

    def __init__(
        self,
        folder: Path,
        overrides: dict[str, Any] | None = None,
        *,
        is_resume: bool = False,
        parent: tuple[Run, int] | None = None,
        **options: Any,
    ) -> None:
        torch.manual_seed(99)
        self.writer = MemoryWriter()
        self.experiment = Experiment(
            "learning",
            writers=[self.writer],
            folder=folder,
            console=False,
            is_code_recorded=False,
            **options,
        )
        if is_resume:
            self.experiment.resume()
        if parent is not None:
            self.experiment.load_from(parent[0].experiment.checkpoints_folder, parent[1])
        self.conf: Configs = self.experiment.calculate_configs(
            Configs(), overrides, ["set_seed", "run"]
        )

    def train(self) -> Run:
        with self.experiment.start():
            self.conf.run()
        return self

    def weights(self) -> list[list[float]]:
        return [tensor.flatten().tolist() for tensor in self.conf.model.state_dict().values()]

    def scalars(self, after: int = 0) -> dict[str, list[tuple[int, float]]]:
        """Return what was tracked behind a step."""
        found = {
            name: [(step, value) for step, value in points if step > after]
            for name, points in self.writer.scalars.items()
        }
        return {name: points for name, points in found.items() if points}


def stop_at(step: int) -> dict[str, Any]:
    """Return the override that stops a run after a step."""
    return {"after_step": lambda now: loop.request_stop() if now == step else None}
