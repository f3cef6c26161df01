"""What came of a search, drawn and as a table; needs the extra [plot]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab_client.errors import MissingExtra
from lab_client.searches import SearchInfo, Trial, TrialState

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def trials_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return trials as a frame: a row each, by number, with a column `params.KEY` for each item.

    Raises:
        MissingExtra: if pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra("pandas", "plot") from None
    rows = [
        {
            "number": trial.number,
            "state": str(trial.state),
            "value": trial.value,
            "step": trial.step,
            "rung": trial.rung,
            "run_id": trial.run_id,
            **{f"params.{key}": value for key, value in trial.params.items()},
        }
        for trial in trials
    ]
    columns = ["number", "state", "value", "step", "rung", "run_id"]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return frame.astype({"value": "float64"}).set_index("number")


def plot_search(info: SearchInfo, trials: Sequence[Trial]) -> Any:
    """Draw a search's history, and its trials in parallel coordinates, as a matplotlib figure.

    Raises:
        MissingExtra: if matplotlib is not installed.
    """
    try:
        from lab_client.figure import NotebookFigure
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    figure = NotebookFigure(figsize=(9, 7), layout="constrained")
    history, coordinates = figure.subplots(2, 1)
    _draw_history(history, info, trials)
    _draw_coordinates(coordinates, info, trials)
    return figure


def _draw_history(axis: Axes, info: SearchInfo, trials: Sequence[Trial]) -> None:
    from matplotlib.ticker import MaxNLocator

    best_of = max if info.is_maximized else min
    is_end = [trial.state is TrialState.COMPLETED for trial in trials]
    for wanted, label, marker in ((True, "trained to the end", "o"), (False, "ended early", "x")):
        points = [
            (trial.number, trial.value)
            for trial, end in zip(trials, is_end, strict=True)
            if end is wanted and trial.value is not None
        ]
        if points:
            axis.scatter(*zip(*points, strict=True), label=label, marker=marker, alpha=0.7)
    steps: list[tuple[int, float]] = []
    for trial, end in zip(trials, is_end, strict=True):
        if end and trial.value is not None:
            steps.append(
                (trial.number, best_of(trial.value, steps[-1][1]) if steps else trial.value)
            )
    if steps:
        numbers, values = zip(*steps, strict=True)
        axis.step(numbers, values, where="post", label="best so far", color="black", linewidth=1)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("trial")
    axis.set_ylabel(info.metric)
    axis.set_title(info.name, loc="left")
    axis.grid(visible=True, alpha=0.3)
    if axis.has_data():
        axis.legend(fontsize="small")


def _draw_coordinates(axis: Axes, info: SearchInfo, trials: Sequence[Trial]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = [trial for trial in trials if trial.value is not None]
    keys = list(info.space)
    values = [trial.value for trial in known if trial.value is not None]
    norm = Normalize(min(values, default=0.0), max(values, default=1.0))
    colours = colormaps["viridis" if info.is_maximized else "viridis_r"]
    places = {key: _places(key, info, known) for key in keys}
    for index, trial in enumerate(known):
        heights = [places[key][index] for key in keys] + [float(norm(trial.value or 0.0))]
        axis.plot(range(len(keys) + 1), heights, color=colours(norm(trial.value or 0.0)), alpha=0.6)
    axis.set_xticks(range(len(keys) + 1), [*keys, info.metric])
    axis.set_yticks([])
    for x, key in enumerate(keys):
        domain = info.space[key]
        axis.axvline(x, color="black", linewidth=0.8)
        axis.annotate(str(domain)[:40], (x, 1.02), ha="center", fontsize="x-small")
    axis.axvline(len(keys), color="black", linewidth=0.8)
    if known and axis.figure is not None:
        axis.figure.colorbar(ScalarMappable(norm, colours), ax=axis, label=info.metric)


def _places(key: str, info: SearchInfo, trials: Sequence[Trial]) -> list[float]:
    """Return where each trial's value of an item lies, from 0 to 1."""
    import math

    values = [trial.params.get(key) for trial in trials]
    numbers = [float(v) for v in values if isinstance(v, int | float)]
    if len(numbers) == len(values) and numbers:
        domain = info.space[key]
        if getattr(domain, "is_log", False):
            numbers = [math.log(number) for number in numbers]
        low, high = min(numbers), max(numbers)
        return [(number - low) / ((high - low) or 1.0) for number in numbers]
    names = sorted({str(value) for value in values})
    return [names.index(str(value)) / max(1, len(names) - 1) for value in values]
