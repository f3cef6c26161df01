"""The data of a progress bar."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Bar:
    """A progress bar. Its owner sets the fields; the sink reads them when it refreshes.

    Attributes:
        total: the final value of `done`; None if unknown.
        detail: shown after the bar, e.g. the current metrics.
    """

    text: str
    total: float | None = None
    done: float = 0.0
    detail: str = ""
    depth: int = 0
    start_s: float = field(default_factory=lambda: time.monotonic())
    start_done: float = 0.0
