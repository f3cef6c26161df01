"""Ending a training whose validation no longer improves."""

from __future__ import annotations

import math
from typing import Annotated, Any

from annotated_types import Ge

from lab_core.helpers.pytorch.monitor import MonitorConfigs, is_larger_better

__all__ = ["EarlyStopping", "EarlyStoppingConfigs"]


class EarlyStopping:
    """Counts the epochs since the last improvement.

    Args:
        patience: epochs without improvement after which the training ends.
        min_delta: smallest change that is an improvement.
        is_larger_better: whether a larger value is the better one.
    """

    def __init__(
        self, patience: int, *, min_delta: float = 0.0, is_larger_better: bool = False
    ) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self._sign = 1.0 if is_larger_better else -1.0
        self._best: float | None = None
        self._num_worse = 0

    @property
    def is_due(self) -> bool:
        """Whether the training is to end."""
        return self._num_worse >= self.patience

    def add(self, value: float) -> None:
        """Take the value of an epoch; NaN is no improvement."""
        if self._is_better(value):
            self._best, self._num_worse = value, 0
        else:
            self._num_worse += 1

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        return self._sign * (value - self._best) > self.min_delta

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, and the epochs since."""
        return {"best": self._best, "num_worse": self._num_worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the values of a checkpoint."""
        self._best, self._num_worse = state["best"], state["num_worse"]


class EarlyStoppingConfigs(MonitorConfigs):
    """`early_stopping`, if `early_stopping_patience` is set."""

    # epochs without improvement of monitored_metric after which the training ends; never unless set
    early_stopping_patience: Annotated[int, Ge(1)] | None = None
    # smallest change of monitored_metric that is an improvement
    early_stopping_min_delta: Annotated[float, Ge(0)] = 0.0
    # decides after each epoch whether the training ends; None without early_stopping_patience
    early_stopping: EarlyStopping | None


@EarlyStoppingConfigs.calc(EarlyStoppingConfigs.early_stopping)
def patient_stopping(c: EarlyStoppingConfigs) -> EarlyStopping | None:
    if c.early_stopping_patience is None:
        return None
    return EarlyStopping(
        c.early_stopping_patience,
        min_delta=c.early_stopping_min_delta,
        is_larger_better=is_larger_better(c.monitored_metric),
    )
