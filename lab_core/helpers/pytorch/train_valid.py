"""A trainer that trains on one loader and validates on another, for configs to inherit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import torch
from annotated_types import Ge
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lab_core import logger, loop, monit, tracker
from lab_core.helpers.pytorch.early_stopping import EarlyStoppingConfigs
from lab_core.helpers.pytorch.precision import Precision
from lab_core.helpers.pytorch.updates import UpdateConfigs, Updates
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
    """Iterates over a loader once: trains if it has updates, else validates.

    Attributes:
        name: label of the progress bar.
        model: maps inputs to outputs.
        loader: batches of inputs and targets.
        loss_func: mean loss of a batch, from outputs and targets.
        accuracy_func: number of correct outputs in a batch; None to skip accuracy.
        device: the device to compute on.
        updates: of the model's weights; None to validate.
        precision: of the forward pass when validating.
        log_interval: batches between saves of the tracked metrics, while training.
    """

    name: str
    model: torch.nn.Module
    loader: Loader
    loss_func: LossFunction
    accuracy_func: LossFunction | None
    device: torch.device
    updates: Updates | None = None
    precision: Precision = field(default_factory=Precision)
    log_interval: int = 1

    def __call__(self) -> Mapping[str, Tensor]:
        """Iterate, and return the metrics of the validation; none of a training."""
        if self.updates is None:
            return self._validate()
        self._train(self.updates)
        return {}

    def _train(self, updates: Updates) -> None:
        self.model.train()
        for i, (data, target) in monit.enum(self.name, self.loader):
            data, target = self._to_device(data), self._to_device(target)
            updates.begin(len(self.loader) - i)
            with updates.precision.autocast():
                output = self.model(data)
                loss = self.loss_func(output, target)
            updates.add(loss)
            loop.add_global_step()
            tracker.add(train_loss=loss)
            if i % self.log_interval == 0:
                tracker.save()
        updates.finish()

    def _validate(self) -> Mapping[str, Tensor]:
        self.model.eval()
        # sums stay on the device: no synchronisation until the last batch
        loss = torch.zeros((), device=self.device)
        num_right = torch.zeros((), device=self.device)
        num_samples = 0
        with torch.no_grad():
            for _, (data, target) in monit.enum(self.name, self.loader):
                data, target = self._to_device(data), self._to_device(target)
                with self.precision.autocast():
                    output = self.model(data)
                    loss += self.loss_func(output, target) * len(data)
                num_samples += len(data)
                if self.accuracy_func is not None:
                    num_right += self.accuracy_func(output, target)
        metrics = {"valid_loss": loss / num_samples}
        if self.accuracy_func is not None:
            metrics["valid_accuracy"] = num_right / num_samples
        tracker.add(metrics)
        return metrics

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)  # which only pinned memory can


class TrainValidConfigs(UpdateConfigs, EarlyStoppingConfigs, TrainingLoopConfigs):
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
        stopping = self.early_stopping
        if self.is_log_parameters:
            pytorch_utils.add_model_indicators(self.model)
        for step in self.training_loop:
            if stopping is not None and stopping.is_due:
                name, patience = self.monitored_metric, stopping.patience
                logger.log(
                    f"stopped early at step {step}: {name} is no better for {patience} epochs"
                )
                break
            trainer()
            self._judge(validator())
            if self.is_log_parameters:
                pytorch_utils.store_model_indicators(self.model)

    def _judge(self, metrics: Mapping[str, Tensor]) -> None:
        """Let early stopping and the schedule know how good the epoch was."""
        stopping, schedule = self.early_stopping, self.schedule
        if stopping is not None:
            stopping.add(float(metrics[self.monitored_metric]))
        if isinstance(schedule, ReduceLROnPlateau):
            schedule.step(float(metrics[self.monitored_metric]))


@TrainValidConfigs.calc(TrainValidConfigs.loop_count)
def steps_of_all_epochs(c: TrainValidConfigs) -> int:
    return c.epochs * len(c.train_loader)


@TrainValidConfigs.calc(TrainValidConfigs.loop_step)
def steps_of_an_epoch(c: TrainValidConfigs) -> int:
    return len(c.train_loader)


@TrainValidConfigs.calc(TrainValidConfigs.num_updates)
def updates_of_all_epochs(c: TrainValidConfigs) -> int:
    epochs, rest = divmod(int(c.loop_count), max(1, len(c.train_loader)))
    per_epoch, last = (-(-n // c.accumulate_batches) for n in (len(c.train_loader), rest))
    return epochs * per_epoch + last


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
        updates=c.updates,
        log_interval=c.train_log_interval,
    )


@TrainValidConfigs.calc(TrainValidConfigs.validator)
def validator(c: TrainValidConfigs) -> Trainer:
    return Trainer(
        name="Valid",
        model=c.model if c.averaged_model is None else c.averaged_model,
        loader=c.valid_loader,
        loss_func=c.loss_func,
        accuracy_func=c.accuracy_func,
        device=c.device,
        precision=c.precision,
    )
