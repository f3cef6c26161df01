"""An exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab_core.configs import BaseConfigs

__all__ = ["AveragingConfigs"]


class AveragingConfigs(BaseConfigs):
    """`averaged_model`: the model with the moving average of its weights, if `ema_decay` is set."""

    # the model whose weights are averaged
    model: torch.nn.Module
    # what the moving average of the weights keeps at each update, 0.999 say; no average unless set
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    # the model with averaged weights; None without ema_decay
    averaged_model: AveragedModel | None


@AveragingConfigs.calc(AveragingConfigs.averaged_model)
def moving_average(c: AveragingConfigs) -> AveragedModel | None:
    if c.ema_decay is None:
        return None
    # buffers too: those of a batch norm belong to the weights
    return AveragedModel(c.model, multi_avg_fn=get_ema_multi_avg_fn(c.ema_decay), use_buffers=True)
