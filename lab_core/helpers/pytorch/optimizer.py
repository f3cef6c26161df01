"""Optimizers to choose from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Gt

from lab_core.configs import BaseConfigs

__all__ = ["OptimizerConfigs"]


class OptimizerConfigs(BaseConfigs):
    """`optimizer`, for `parameters`; to inherit from, or to nest in a config class."""

    # the parameters to optimize: a model's parameters()
    parameters: Iterable[torch.nn.Parameter]
    # step size
    learning_rate: Annotated[float, Gt(0)] = 0.01
    # momentum of SGD
    momentum: Annotated[float, Ge(0)] = 0.5
    # of Adam and AdamW: decay rates of the running means of the gradient and of its square
    betas: list[float] = [0.9, 0.999]  # noqa: RUF012 - an item, read and never changed
    # weight decay (L2 penalty)
    weight_decay: Annotated[float, Ge(0)] = 0.0
    # updates the parameters
    optimizer: torch.optim.Optimizer


@OptimizerConfigs.calc(OptimizerConfigs.optimizer)
def sgd_optimizer(c: OptimizerConfigs) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        c.parameters, lr=c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay
    )


@OptimizerConfigs.calc(OptimizerConfigs.optimizer)
def adam_optimizer(c: OptimizerConfigs) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        c.parameters,
        lr=c.learning_rate,
        betas=(c.betas[0], c.betas[1]),
        weight_decay=c.weight_decay,
    )


@OptimizerConfigs.calc(OptimizerConfigs.optimizer)
def adamw_optimizer(c: OptimizerConfigs) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        c.parameters,
        lr=c.learning_rate,
        betas=(c.betas[0], c.betas[1]),
        weight_decay=c.weight_decay,
    )
