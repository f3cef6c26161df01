"""Schedules of the learning rate to choose from."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch.optim import lr_scheduler

from lab_core.helpers.pytorch.monitor import MonitorConfigs, is_larger_better

__all__ = ["ScheduleConfigs", "warmup_cosine_factor"]


def warmup_cosine_factor(
    update: int, num_updates: int, warmup_share: float, final_share: float
) -> float:
    """Return the learning rate of an update as a share of the highest one.

    Args:
        update: number of updates before it.
        num_updates: of the whole training.
        warmup_share: the share of updates in which the rate rises linearly.
        final_share: the rate after the last update, as a share of the highest one.
    """
    num_warmup = round(warmup_share * num_updates)
    if update < num_warmup:
        return (update + 1) / num_warmup
    progress = (update - num_warmup) / max(1, num_updates - num_warmup)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return final_share + (1 - final_share) * cosine


class ScheduleConfigs(MonitorConfigs):
    """`schedule` of the optimizer's learning rate; constant unless an option is selected."""

    # the optimizer whose learning rate changes
    optimizer: torch.optim.Optimizer
    # updates of the whole training
    num_updates: Annotated[int, Ge(0)]
    # warmup_cosine, one_cycle: the share of all updates in which the learning rate rises
    warmup_share: Annotated[float, Ge(0), Lt(1)] = 0.1
    # warmup_cosine: the last learning rate as a share of the highest one
    final_share: Annotated[float, Ge(0), Le(1)] = 0.0
    # plateau: epochs without improvement after which the learning rate is reduced
    plateau_patience: Annotated[int, Ge(0)] = 10
    # plateau: the learning rate is multiplied by this
    plateau_factor: Annotated[float, Gt(0), Lt(1)] = 0.1
    # of the learning rate: constant, warmup_cosine, one_cycle or plateau
    schedule: lr_scheduler.LRScheduler | None


@ScheduleConfigs.calc(ScheduleConfigs.schedule)
def constant() -> None:
    return None


@ScheduleConfigs.calc(ScheduleConfigs.schedule)
def warmup_cosine(c: ScheduleConfigs) -> lr_scheduler.LRScheduler:
    num_updates, warmup_share, final_share = c.num_updates, c.warmup_share, c.final_share

    def factor(update: int) -> float:
        return warmup_cosine_factor(update, num_updates, warmup_share, final_share)

    return lr_scheduler.LambdaLR(c.optimizer, factor)


@ScheduleConfigs.calc(ScheduleConfigs.schedule)
def one_cycle(c: ScheduleConfigs) -> lr_scheduler.LRScheduler:
    # one more, as it steps after the last update too; in fewer than four OneCycleLR divides by 0
    total = max(4, c.num_updates + 1)
    num_rising = min(max(2, round(c.warmup_share * c.num_updates)), total - 2)
    return lr_scheduler.OneCycleLR(
        c.optimizer,
        max_lr=[group["lr"] for group in c.optimizer.param_groups],
        total_steps=total,
        pct_start=num_rising / total,
        cycle_momentum=False,  # the momentum is what the configs say
    )


@ScheduleConfigs.calc(ScheduleConfigs.schedule)
def plateau(c: ScheduleConfigs) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ReduceLROnPlateau(
        c.optimizer,
        mode="max" if is_larger_better(c.monitored_metric) else "min",
        factor=c.plateau_factor,
        patience=c.plateau_patience,
    )
