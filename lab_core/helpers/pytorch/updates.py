"""From the losses of batches to updates of the weights: accumulated, clipped, scheduled, averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from lab_core import tracker
from lab_core.helpers.pytorch.averaging import AveragingConfigs
from lab_core.helpers.pytorch.precision import Precision, PrecisionConfigs
from lab_core.helpers.pytorch.schedule import ScheduleConfigs

__all__ = ["AccumulatedUpdates", "UpdateConfigs", "Updates"]


@dataclass(eq=False)
class Updates:
    """Updates the weights after each batch.

    With `clip_norm` the norm of the gradients is tracked as ``gradient_norm``, and with a schedule the
    learning rate as ``learning_rate``.

    Attributes:
        optimizer: updates the model's parameters.
        precision: of the forward pass.
        clip_norm: the largest norm of all gradients together; None for no limit.
        clip_value: the largest absolute value of a gradient; None for no limit.
        schedule: of the learning rate.
        model: the model, None if its weights are not averaged.
        averaged_model: takes the average of the model's weights.

    Example:
        >>> for batch, (data, target) in enumerate(loader):  # doctest: +SKIP
        ...     updates.begin(len(loader) - batch)
        ...     with updates.precision.autocast():
        ...         loss = loss_func(model(data), target)
        ...     updates.add(loss)
        >>> updates.finish()  # doctest: +SKIP
    """

    optimizer: torch.optim.Optimizer
    precision: Precision
    clip_norm: float | None = None
    clip_value: float | None = None
    schedule: LRScheduler | None = None
    model: torch.nn.Module | None = None
    averaged_model: AveragedModel | None = None

    def begin(self, num_left: int) -> None:  # noqa: ARG002  # for those who accumulate
        """Begin a batch.

        Args:
            num_left: batches left in the epoch, with this one.
        """
        self.optimizer.zero_grad()

    def add(self, loss: Tensor) -> None:
        """Take the mean loss of the batch."""
        self.precision.backward(loss)
        self._update()

    def finish(self) -> None:
        """End the epoch."""

    def _update(self) -> None:
        if self.clip_norm is not None or self.clip_value is not None:
            self._clip()
        if self.schedule is not None:
            tracker.add(learning_rate=float(self.optimizer.param_groups[0]["lr"]))
        self.precision.step(self.optimizer)
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        if self.averaged_model is not None and self.model is not None:
            self.averaged_model.update_parameters(self.model)

    def _clip(self) -> None:
        self.precision.unscale(self.optimizer)
        parameters = self._parameters()
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        if self.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            tracker.add(gradient_norm=norm)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [one for group in self.optimizer.param_groups for one in group["params"]]


@dataclass(eq=False)
class AccumulatedUpdates(Updates):
    """Updates the weights after several batches, by the mean of their gradients.

    The last update of an epoch may be of fewer batches. Gradients that wait for an update are in
    checkpoints.

    Attributes:
        num_batches: batches of an update.
    """

    num_batches: int = 1

    def __post_init__(self) -> None:
        self._num_added = 0
        self._num_wanted = 0

    def begin(self, num_left: int) -> None:
        """Begin a batch; the first one of an update drops the gradients of the last one."""
        if self._num_added == 0:
            super().begin(num_left)
            self._num_wanted = min(self.num_batches, num_left)

    def add(self, loss: Tensor) -> None:
        """Take the mean loss of the batch, and update the weights if it is the last one of an update."""
        self.precision.backward(loss / self._num_wanted)
        self._num_added += 1
        if self._num_added == self._num_wanted:
            self._end_update()

    def finish(self) -> None:
        """Update the weights by the batches that wait for it: the epoch was shorter than announced."""
        if self._num_added:
            self._end_update()

    def _end_update(self) -> None:
        self._update()
        self._num_added = self._num_wanted = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the gradients that wait for an update."""
        waiting = self._parameters() if self._num_added else []
        return {
            "num_added": self._num_added,
            "num_wanted": self._num_wanted,
            "gradients": [parameter.grad for parameter in waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the gradients of a checkpoint."""
        self._num_added, self._num_wanted = state["num_added"], state["num_wanted"]
        # none wait between two updates
        for parameter, gradient in zip(self._parameters(), state["gradients"], strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)


class UpdateConfigs(PrecisionConfigs, ScheduleConfigs, AveragingConfigs):
    """`updates` of the weights: by default one a batch, with nothing else."""

    # batches whose gradients make one update
    accumulate_batches: Annotated[int, Ge(1)] = 1
    # the largest norm of all gradients together; larger ones are scaled down; no limit unless set
    clip_gradient_norm: Annotated[float, Gt(0)] | None = None
    # the largest absolute value of a gradient; larger ones are cut; no limit unless set
    clip_gradient_value: Annotated[float, Gt(0)] | None = None
    # turns the losses of batches into updates of the weights
    updates: Updates


@UpdateConfigs.calc(UpdateConfigs.updates)
def configured_updates(c: UpdateConfigs) -> Updates:
    options: dict[str, Any] = {
        "optimizer": c.optimizer,
        "precision": c.precision,
        "clip_norm": c.clip_gradient_norm,
        "clip_value": c.clip_gradient_value,
        "schedule": c.schedule,
    }
    if c.averaged_model is not None:
        options |= {"model": c.model, "averaged_model": c.averaged_model}
    if c.accumulate_batches == 1:
        return Updates(**options)
    return AccumulatedUpdates(**options, num_batches=c.accumulate_batches)
