"""The comparison plot: one panel per metric, with one line per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab_core.analytics._series import Series
from lab_core.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = (7.0, 2.6)
_MAX_MARKED_POINTS = 50  # longer lines have no markers


def plot(figure_class: type[Figure], panels: Mapping[str, Sequence[tuple[str, Series]]]) -> Figure:
    """Return a figure, created without pyplot and its global state.

    Args:
        figure_class: matplotlib's `Figure`.
        panels: for each metric, its lines with their labels.
    """
    num_panels = max(1, len(panels))
    width, height = _PANEL_INCHES
    figure = figure_class(figsize=(width, height * num_panels), layout="constrained")
    all_axes = figure.subplots(num_panels, 1, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(all_axes, panels.items(), strict=False):
        for label, series in lines:
            if len(series):
                marker = "." if len(series) <= _MAX_MARKED_POINTS else None
                axes.plot(series.steps, series.values, marker=marker, label=label)
        axes.set_title(name, loc="left")
        axes.grid(visible=True, alpha=0.3)
    all_axes[-1].set_xlabel("step")
    if any(len(lines) > 1 for lines in panels.values()):
        all_axes[0].legend(fontsize="small")
    return figure


def panel_names(known: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    """Return the metrics to draw: those wanted, or all known ones if none is wanted.

    Raises:
        LabError: If a wanted metric is not known.
    """
    for name in wanted:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise LabError(f"no run has the metric {name!r}; there is: {listed}")
    return wanted or known
