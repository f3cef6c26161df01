"""The loop, as the tracker needs it: imported at first use, since the loop knows the tracker too."""

from __future__ import annotations


def global_step() -> int:
    """Return the loop's global step."""
    from lab_core import loop

    return loop.get_global_step()


def activity() -> None:
    """Count a sign of life, for whoever watches whether the training hangs."""
    from lab_core import loop

    loop.activity()
