"""Several runs, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from lab_core.analytics._extras import matplotlib_figure, pandas
from lab_core.analytics._run import Run
from lab_core.configs.schema.suggest import did_you_mean
from lab_core.errors import LabError
from lab_core.experiment import Status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Runs(Sequence[Run]):
    """Runs, ordered by start time.

    Args:
        items: the runs.
    """

    def __init__(self, items: Sequence[Run]) -> None:
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<{len(self)} runs: {', '.join(run.id for run in self._items[:3])}{', ...' * (len(self) > 3)}>"

    def where(self, *, status: str | None = None, tag: str | None = None, **configs: Any) -> Runs:
        """Return the runs with this status, tag and config values; a status or tag of None matches all.

        Raises:
            LabError: If there is no such status, or no run has such a config.

        Example:
            >>> analytics.runs().where(status="completed", conv1_kernal=5)  # doctest: +SKIP
        """
        if status is not None and status not in list(Status):
            raise LabError(f"there is no status {status!r}; there is {', '.join(Status)}")
        known = dict.fromkeys(key for run in self._items for key in run.configs)
        for key in configs:
            if self._items and key not in known:
                raise LabError(f"no run has the config {key!r}{did_you_mean(key, known)}")
        return Runs(
            [
                run
                for run in self._items
                if (status is None or run.record.status.value == status)
                and (tag is None or tag in run.record.tags)
                and all(run.configs.get(key) == value for key, value in configs.items())
            ]
        )

    def differing(self) -> tuple[str, ...]:
        """Return the keys of the hyper-parameters that differ between the runs."""
        keys = dict.fromkeys(key for run in self._items for key in run.hyperparams)
        return tuple(
            key for key in keys if len({repr(run.configs.get(key)) for run in self._items}) > 1
        )

    def columns(self) -> dict[str, list[Any]]:
        """Return one row per run: id, name, status, start, hyper-parameters, last value of each metric.

        Missing values are None. A hyper-parameter with the name of one of the first four columns is in the
        column `config.NAME`, and a metric with the name of another column in `last.NAME`.
        """
        records = [run.record for run in self._items]
        columns: dict[str, list[Any]] = {
            "id": [record.id for record in records],
            "name": [record.name for record in records],
            "status": [record.status.value for record in records],
            "start": [record.start for record in records],
        }
        for key in dict.fromkeys(key for run in self._items for key in run.hyperparams):
            # also for runs in which the item is not a hyper-parameter: it has a value there, too
            column = f"config.{key}" if key in columns else key
            columns[column] = [run.configs.get(key) for run in self._items]
        lasts = [run.last_values() for run in self._items]
        for name in dict.fromkeys(name for last in lasts for name in last):
            column = f"last.{name}" if name in columns else name
            columns[column] = [last.get(name) for last in lasts]
        return columns

    def to_pandas(self) -> pd.DataFrame:
        """Return `columns()` as a data frame, indexed by run id.

        Raises:
            LabError: If pandas is not installed.
        """
        library = pandas()
        frame: pd.DataFrame = library.DataFrame(self.columns()).set_index("id")
        frame["start"] = library.to_datetime(
            frame["start"], utc=True, format="ISO8601", errors="coerce"
        )
        return frame

    def plot(self, *metrics: str) -> Figure:
        """Plot metrics over the steps, one line per run, labelled by the hyper-parameters that differ.

        Args:
            metrics: one panel each; all if none is named.

        Raises:
            LabError: If matplotlib is not installed, or no run has such a metric.
        """
        from lab_core.analytics._plot import panel_names, plot

        known = list(dict.fromkeys(name for run in self._items for name in run.metrics))
        labels = self._labels()
        panels = {
            name: [
                (label, run.series(name)) for label, run in zip(labels, self._items, strict=True)
            ]
            for name in panel_names(known, metrics)
        }
        return plot(matplotlib_figure(), panels)

    def _labels(self) -> list[str]:
        """Return a label for each run that tells it apart from the others."""
        differing = self.differing()
        if not differing:
            return [run.id for run in self._items]
        return [
            ", ".join(f"{key}={run.configs.get(key)}" for key in differing) for run in self._items
        ]
