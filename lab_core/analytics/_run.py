"""One run, read from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_core._packages import require
from lab_core.analytics._extras import matplotlib_figure, pandas
from lab_core.analytics._series import Series, last_values, metric_names, read_series
from lab_core.configs import PlainValue
from lab_core.errors import LabError
from lab_core.experiment import RunRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its configs, and its metrics, which are read on access.

    Attributes:
        record: the content of run.yaml: experiment, name, notes, tags, status, start and end, commit.
        folder: the run's folder.
        configs: the value of every item; the option's name if the value is not plain.
        hyperparams: the configs that were given or marked.

    Example:
        >>> run = analytics.load("20261123-063012-4f2a9c")  # doctest: +SKIP
        >>> run.series("accuracy").values[-1]  # doctest: +SKIP
        0.97
    """

    record: RunRecord
    folder: Path
    configs: Mapping[str, PlainValue]
    hyperparams: Mapping[str, PlainValue]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run's folder.

        Raises:
            LabError: If it has no readable run.yaml, or a damaged configs.yaml.
        """
        record = RunRecord.load(folder)
        items = _read_items(folder / "configs.yaml")
        configs = {key: _value(item) for key, item in items.items()}
        marked = [key for key, item in items.items() if item.get("hyperparam")]
        return cls(record, folder, configs, {key: configs[key] for key in marked})

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that have points."""
        return metric_names(self._db)

    def series(self, name: str) -> Series:
        """Return a metric over the steps; empty if it has no points."""
        return read_series(self._db, name)

    def last(self, name: str) -> float:
        """Return the last value of a metric; NaN if it has no points."""
        return self.last_values().get(name, math.nan)

    def last_values(self) -> dict[str, float]:
        """Return the last value of every metric."""
        return last_values(self._db)

    def columns(self, metrics: Sequence[str] | None = None) -> dict[str, list[Any]]:
        """Return metrics as columns: "step", and one per metric, with None where it has no point.

        A metric named "step" is in the column "metric.step".

        Args:
            metrics: the metrics, in this order; None for all.
        """
        found = [self.series(name) for name in (self.metrics if metrics is None else metrics)]
        steps = sorted({step for series in found for step in series.steps})
        columns: dict[str, list[Any]] = {"step": steps}
        for series in found:
            values = dict(zip(series.steps, series.values, strict=True))
            name = f"metric.{series.name}" if series.name == "step" else series.name
            columns[name] = [values.get(step) for step in steps]
        return columns

    def to_pandas(self, metrics: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the metrics as a data frame, indexed by step.

        Raises:
            LabError: If pandas is not installed.
        """
        columns = self.columns(metrics)
        steps = columns.pop("step")
        library = pandas()
        index = library.Index(steps, name="step", dtype="int64")
        frame: pd.DataFrame = library.DataFrame(columns, index=index, dtype="float64")
        return frame

    def plot(self, *metrics: str) -> Figure:
        """Plot metrics over the steps, one panel each; all if none is named.

        Raises:
            LabError: If matplotlib is not installed, or the run has no such metric.
        """
        from lab_core.analytics._plot import panel_names, plot

        names = panel_names(self.metrics, metrics)
        return plot(matplotlib_figure(), {name: [(self.id, self.series(name))] for name in names})

    @property
    def _db(self) -> Path:
        return self.folder / "sqlite.db"


def _read_items(path: Path) -> dict[str, dict[str, Any]]:
    """Return the items of configs.yaml; empty for a run without configs."""
    yaml = require("yaml")
    if not path.exists():
        return {}
    try:
        # the loader of libyaml is ten times as fast; not every build of PyYAML has it
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        items: dict[str, dict[str, Any]] = data["items"]
        return {str(key): dict(item) for key, item in items.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise LabError(f"{path} does not hold the configs of a run: {error}") from error


def _value(item: Mapping[str, Any]) -> PlainValue:
    value: PlainValue = item.get("value")
    if value is None and "option" in item:
        option: str = item["option"]
        return option
    if value is None and "text" in item:
        text: str = item["text"]
        return text
    return value
