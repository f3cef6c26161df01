"""Which checkpoints of a run are kept."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab_core.checkpoints._files import Checkpoint, list_checkpoints
from lab_core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class KeepBest:
    """Keep the checkpoint at which a scalar was best.

    Attributes:
        metric: the scalar's name.
        mode: whether larger or smaller is better.
    """

    metric: str
    mode: Literal["max", "min"] = "max"

    def best(self, checkpoints: tuple[Checkpoint, ...]) -> Checkpoint | None:
        """Return the best one, the earlier of equals; None if none has the scalar."""
        sign = 1.0 if self.mode == "max" else -1.0
        rated = [c for c in checkpoints if not math.isnan(c.metrics.get(self.metric, math.nan))]
        return max(rated, key=lambda c: sign * c.metrics[self.metric], default=None)


@dataclass(frozen=True, slots=True)
class Retention:
    """The newest checkpoints, and the best one.

    Attributes:
        keep_last: how many of the newest are kept, at least 1; None keeps all.
        keep_best: what makes one worth keeping although it is old.
    """

    keep_last: int | None = 3
    keep_best: KeepBest | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise SettingsError(f"keep_last must be at least 1 or None, got {self.keep_last}")
        if not isinstance(self.keep_best, KeepBest | None):
            raise SettingsError(
                f"keep_best must be a KeepBest, such as KeepBest('accuracy'), got {self.keep_best!r}"
            )

    def apply(self, folder: Path) -> tuple[Checkpoint, ...]:
        """Delete what is not kept under a run's ``checkpoints`` folder, and return it."""
        if self.keep_last is None:
            return ()
        checkpoints = list_checkpoints(folder)
        kept = set(checkpoints[-self.keep_last :])
        if self.keep_best is not None:
            best = self.keep_best.best(checkpoints)
            if best is not None:
                kept.add(best)
        dropped = tuple(c for c in checkpoints if c not in kept)
        for checkpoint in dropped:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
        return dropped
