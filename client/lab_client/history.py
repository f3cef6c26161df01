"""The history of a run's metrics, as columns; to pandas and to a plot when asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_client.errors import MissingExtra
from lab_client.metric_names import main_names

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one metric.

    Attributes:
        name: the metric's name.
        steps: ascending, none twice.
        values: one a step.
        num_points: how many points there were before downsampling.
        min_value: the smallest finite value of all those points, NaN without any.
        max_value: the largest one.
        last_value: that of the last step.
    """

    name: str
    # not in the repr: a notebook would show each of a million points
    steps: Sequence[int] = field(repr=False)
    values: Sequence[float] = field(repr=False)
    num_points: int
    min_value: float
    max_value: float
    last_value: float

    @property
    def mean(self) -> float:
        """The mean of the finite values here, NaN without any."""
        finite = [value for value in self.values if math.isfinite(value)]
        return math.fsum(finite) / len(finite) if finite else math.nan


@dataclass(frozen=True, slots=True)
class History(Mapping[str, Series]):
    """The metrics of a run, one series each, by name.

    Example:
        >>> from lab_client.history import History, Series
        >>> history = History("r", {"loss": Series("loss", [0, 1], [2.0, 1.0], 2, 1.0, 2.0, 1.0)})
        >>> history["loss"].values[-1]
        1.0
        >>> list(history)
        ['loss']
    """

    run_id: str
    series: Mapping[str, Series]

    def __getitem__(self, name: str) -> Series:
        return self.series[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame with the step as its index and a column for each metric.

        Raises:
            MissingExtra: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra("pandas", "plot") from None
        columns = {
            item.name: pd.Series(list(item.values), index=list(item.steps), dtype="float64")
            for item in self.series.values()
        }
        frame = pd.DataFrame(columns).sort_index()
        frame.index.name = "step"
        return frame

    def plot(self, names: Sequence[str] | None = None) -> Any:
        """Draw each metric over the steps and return the matplotlib figure.

        Args:
            names: which metrics, one or several; when None all but the indicators of single parameters.

        Raises:
            MissingExtra: if matplotlib is not installed.
            KeyError: if there is no such metric.
        """
        try:
            from lab_client.figure import NotebookFigure
        except ImportError:
            raise MissingExtra("matplotlib", "plot") from None
        wanted = main_names(self) if names is None else [names] if isinstance(names, str) else names
        chosen = [self.series[name] for name in wanted]
        num_rows = max(1, len(chosen))
        figure = NotebookFigure(figsize=(8, 2.2 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, 1, squeeze=False)[:, 0]
        for axis, item in zip(axes, chosen, strict=False):
            axis.plot(item.steps, item.values, marker="." if len(item.steps) < 50 else None)
            axis.set_title(item.name, loc="left")
            axis.grid(visible=True, alpha=0.3)
        axes[-1].set_xlabel("step")
        return figure
