"""The comparison plot: a panel for each metric, a line for each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab_core.analytics._run import Run
from lab_core.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_INCHES = (7.0, 2.6)
_FEW_POINTS = 50  # up to so many, each is marked


def plot(
    figure_class: type[Figure],
    runs: Sequence[Run],
    metrics: Sequence[str],
    differing: Sequence[str] = (),
) -> Figure:
    """Return a figure that belongs to nobody: no state of pyplot is touched.

    Raises:
        LabError: If none of the runs has one of the metrics.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for name in metrics:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise LabError(f"no run has the metric {name!r}; there is: {listed}")
    names = list(metrics) or known
    num_panels = max(1, len(names))
    width, height = _PANEL_INCHES
    figure = figure_class(figsize=(width, height * num_panels), layout="constrained")
    panels = figure.subplots(num_panels, 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=False):
        for run in runs:
            series = run.series(name)
            if len(series):
                marker = "." if len(series) <= _FEW_POINTS else None
                axes.plot(series.steps, series.values, marker=marker, label=label(run, differing))
        axes.set_title(name, loc="left")
        axes.grid(visible=True, alpha=0.3)
    panels[-1].set_xlabel("step")
    if len(runs) > 1 and names:
        panels[0].legend(fontsize="small")
    return figure


def label(run: Run, differing: Sequence[str]) -> str:
    """Return what tells a run from the others."""
    if not differing:
        return run.id
    return ", ".join(f"{key}={run.configs.get(key)}" for key in differing)
