"""A progress bar as data: what is in progress, and how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Bar:
    """Something in progress. Its owner sets the fields; the sink reads them when it refreshes.

    Attributes:
        total: the value of `done` at the end; None when nobody knows.
        detail: shown behind the bar: the metrics of now.
    """

    text: str
    total: float | None = None
    done: float = 0.0
    detail: str = ""
    depth: int = 0
    start_s: float = field(default_factory=lambda: time.monotonic())
    start_done: float = 0.0
