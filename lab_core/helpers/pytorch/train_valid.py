"""A trainer that trains on one loader and validates on another, for configs to inherit."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import torch
from annotated_types import Ge
from torch import Tensor

from lab_core import loop, monit, tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs
from lab_core.utils import pytorch as pytorch_utils

__all__ = ["TrainValidConfigs", "Trainer"]

LossFunction = Callable[[Tensor, Tensor], Tensor]


class Loader(Sized, Protocol):
    """Batches of inputs and targets."""

    def __iter__(self) -> Any:
        """Iterate one epoch."""


@dataclass(frozen=True)
class Trainer:
    """Iterates over a loader once: trains if it has an optimizer, else validates.

    Attributes:
        name: label of the progress bar.
        model: maps inputs to outputs.
        loader: batches of inputs and targets.
        loss_func: mean loss of a batch, from outputs and targets.
        accuracy_func: number of correct outputs in a batch; None to skip accuracy.
        device: the device to compute on.
        optimizer: None to validate.
        log_interval: batches between saves of the tracked metrics, while training.
    """

    name: str
    model: torch.nn.Module
    loader: Loader
    loss_func: LossFunction
    accuracy_func: LossFunction | None
    device: torch.device
    optimizer: torch.optim.Optimizer | None = None
    log_interval: int = 1

    def __call__(self) -> None:
        if self.optimizer is None:
            self._validate()
        else:
            self._train(self.optimizer)

    def _train(self, optimizer: torch.optim.Optimizer) -> None:
        self.model.train()
        for i, (data, target) in monit.enum(self.name, self.loader):
            data = data.to(self.device, non_blocking=True)
            target = target.to(self.device, non_blocking=True)
            optimizer.zero_grad()
            output = self.model(data)
            loss = self.loss_func(output, target)
            loss.backward()
            optimizer.step()
            loop.add_global_step()
            tracker.add(train_loss=loss)
            if i % self.log_interval == 0:
                tracker.save()

    def _validate(self) -> None:
        self.model.eval()
        # sums stay on the device: no synchronisation until the last batch
        loss = torch.zeros((), device=self.device)
        num_right = torch.zeros((), device=self.device)
        num_samples = 0
        with torch.no_grad():
            for _, (data, target) in monit.enum(self.name, self.loader):
                data = data.to(self.device, non_blocking=True)
                target = target.to(self.device, non_blocking=True)
                output = self.model(data)
                loss += self.loss_func(output, target) * len(data)
                num_samples += len(data)
                if self.accuracy_func is not None:
                    num_right += self.accuracy_func(output, target)
        tracker.add(valid_loss=loss / num_samples)
        if self.accuracy_func is not None:
            tracker.add(valid_accuracy=num_right / num_samples)


class TrainValidConfigs(TrainingLoopConfigs):
    """Trains for `epochs` epochs on `train_loader`, and validates after each; the run target is `run`."""

    # number of passes over the training set
    epochs: Annotated[int, Ge(1)] = 10
    # maps inputs to outputs
    model: torch.nn.Module
    # updates the model's parameters
    optimizer: torch.optim.Optimizer
    # the device of the model and of the batches
    device: torch.device
    # batches of inputs and targets to train on; of any type, to fit any data configs
    train_loader: Any
    # batches of inputs and targets to validate on
    valid_loader: Any
    # mean loss of a batch, from outputs and targets
    loss_func: LossFunction
    # number of correct outputs in a batch
    accuracy_func: LossFunction
    # batches between saves of the tracked metrics
    train_log_interval: Annotated[int, Ge(1)] = 10
    # track histograms of the parameters and gradients after each epoch
    is_log_parameters: bool = True
    # trains for one epoch
    trainer: Trainer
    # validates once
    validator: Trainer

    loop_count = "steps_of_all_epochs"  # type: ignore[assignment] # names an option
    loop_step = "steps_of_an_epoch"  # type: ignore[assignment]

    def run(self) -> None:
        """Train and validate."""
        trainer, validator = self.trainer, self.validator
        if self.is_log_parameters:
            pytorch_utils.add_model_indicators(self.model)
        for _ in self.training_loop:
            trainer()
            validator()
            if self.is_log_parameters:
                pytorch_utils.store_model_indicators(self.model)


@TrainValidConfigs.calc(TrainValidConfigs.loop_count)
def steps_of_all_epochs(c: TrainValidConfigs) -> int:
    return c.epochs * len(c.train_loader)


@TrainValidConfigs.calc(TrainValidConfigs.loop_step)
def steps_of_an_epoch(c: TrainValidConfigs) -> int:
    return len(c.train_loader)


@TrainValidConfigs.calc(TrainValidConfigs.loss_func)
def cross_entropy() -> LossFunction:
    return torch.nn.functional.cross_entropy


@TrainValidConfigs.calc(TrainValidConfigs.accuracy_func)
def top_1() -> LossFunction:
    return lambda output, target: (output.argmax(dim=-1) == target).sum()


@TrainValidConfigs.calc(TrainValidConfigs.trainer)
def trainer(c: TrainValidConfigs) -> Trainer:
    return Trainer(
        name="Train",
        model=c.model,
        loader=c.train_loader,
        loss_func=c.loss_func,
        accuracy_func=None,
        device=c.device,
        optimizer=c.optimizer,
        log_interval=c.train_log_interval,
    )


@TrainValidConfigs.calc(TrainValidConfigs.validator)
def validator(c: TrainValidConfigs) -> Trainer:
    return Trainer(
        name="Valid",
        model=c.model,
        loader=c.valid_loader,
        loss_func=c.loss_func,
        accuracy_func=c.accuracy_func,
        device=c.device,
    )
