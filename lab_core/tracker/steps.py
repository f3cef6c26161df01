"""The loop, as the tracker needs it: imported at first use, since the loop knows the tracker too."""

from __future__ import annotations

import importlib
from typing import Any

_loop: Any = (
    None  # the module, once bound: an import statement in each call would cost more than a call
)


def global_step() -> int:
    """Return the loop's global step."""
    step: int = (_loop or _bind()).get_global_step()
    return step


def activity() -> None:
    """Count a sign of life, for whoever watches whether the training hangs."""
    (_loop or _bind()).activity()


def _bind() -> Any:
    global _loop
    _loop = importlib.import_module("lab_core.loop")
    return _loop
