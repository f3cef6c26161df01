"""Optional imports: pandas for data frames, matplotlib for plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab_core.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pandas() -> Any:
    """Return pandas.

    Raises:
        LabError: If it is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise _missing("pandas") from None
    return pd


def matplotlib_figure() -> type[Figure]:
    """Return matplotlib's `Figure` class.

    Raises:
        LabError: If it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise _missing("matplotlib") from None
    return Figure


def _missing(name: str) -> LabError:
    return LabError(f"{name} is not installed; install it with: pip install 'lab-train[plot]'")
