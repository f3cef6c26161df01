"""The metric of the validation by which a training is judged."""

from __future__ import annotations

from typing import Literal

from lab_core.configs import BaseConfigs

__all__ = ["Metric", "MonitorConfigs", "is_larger_better"]

Metric = Literal["valid_loss", "valid_accuracy"]


def is_larger_better(metric: Metric) -> bool:
    """Return whether a larger value of a metric is the better one."""
    return metric == "valid_accuracy"


class MonitorConfigs(BaseConfigs):
    """`monitored_metric`: what early stopping and the schedule `plateau` look at."""

    # the metric by which early stopping and the schedule `plateau` judge an epoch
    monitored_metric: Metric = "valid_loss"
