"""The comparison plot: a panel for each metric, in it a line for each run that measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab_core.analytics._series import Series
from lab_core.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = (7.0, 2.6)
_FEW_POINTS = 50  # up to so many, each is marked


def plot(figure_class: type[Figure], panels: Mapping[str, Sequence[tuple[str, Series]]]) -> Figure:
    """Return a figure that belongs to nobody: no state of pyplot is touched.

    Args:
        figure_class: matplotlib's.
        panels: for each metric, the lines and their labels.
    """
    num_panels = max(1, len(panels))
    width, height = _PANEL_INCHES
    figure = figure_class(figsize=(width, height * num_panels), layout="constrained")
    all_axes = figure.subplots(num_panels, 1, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(all_axes, panels.items(), strict=False):
        for label, series in lines:
            if len(series):
                marker = "." if len(series) <= _FEW_POINTS else None
                axes.plot(series.steps, series.values, marker=marker, label=label)
        axes.set_title(name, loc="left")
        axes.grid(visible=True, alpha=0.3)
    all_axes[-1].set_xlabel("step")
    if any(len(lines) > 1 for lines in panels.values()):
        all_axes[0].legend(fontsize="small")
    return figure


def panel_names(known: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    """Return the metrics to draw: those wanted, or all that are known.

    Raises:
        LabError: If one that is wanted is not known.
    """
    for name in wanted:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise LabError(f"no run has the metric {name!r}; there is: {listed}")
    return wanted or known
