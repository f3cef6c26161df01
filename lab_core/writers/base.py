"""The interface between the tracker and writers: batches of metrics, and the `Writer` protocols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

HparamValue = bool | int | float | str | list[object] | None


@dataclass(frozen=True, slots=True)
class ScalarColumn:
    """The points of one metric in a batch: three lists of equal length.

    Columns measured at the same steps share the very same `steps` and `times` lists.

    Attributes:
        name: the full name, dotted by namespaces.
        steps: the global step at which each value was measured.
        values: float64, NaN and infinities included.
        times: when each was saved, in seconds since 1970.
        is_print: whether the console shows it.
    """

    name: str
    steps: list[int]
    values: list[float]
    times: list[float]
    is_print: bool = False


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """The histogram of one indicator at one step.

    Attributes:
        edges: len(counts) + 1 rising bounds of the bins, over the finite values.
        counts: how many values fell in each bin.
        num: of all values, finite or not.
        total: sum of the finite values.
        sum_squares: of the finite values.
        num_nan, num_inf: how many values were not finite.
    """

    name: str
    step: int
    time: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    num: int
    total: float
    sum_squares: float
    num_nan: int = 0
    num_inf: int = 0


@dataclass(frozen=True, slots=True)
class IndexedPoint:
    """The values of an indexed scalar at one step: one for each index, e.g. each sample's loss."""

    name: str
    step: int
    time: float
    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TextPoint:
    """A text at one step."""

    name: str
    step: int
    time: float
    text: str
    is_print: bool = False


@dataclass(frozen=True, slots=True)
class ImagePoint:
    """Images at one step, each uint8 [height, width, channels] with 1, 3 or 4 channels."""

    name: str
    step: int
    time: float
    images_HWC: tuple[npt.NDArray[np.uint8], ...]  # noqa: N815


@dataclass(frozen=True, slots=True)
class ScalarGroup:
    """Scalars with the same steps: a table with one row per step."""

    steps: list[int]
    times: list[float]
    columns: tuple[ScalarColumn, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The metrics since the previous batch; never empty.

    Attributes:
        last_row: up to which save it goes; the first save of a tracker is number 1.
    """

    columns: tuple[ScalarColumn, ...] = ()
    histograms: tuple[HistogramPoint, ...] = ()
    indexed: tuple[IndexedPoint, ...] = ()
    texts: tuple[TextPoint, ...] = ()
    images: tuple[ImagePoint, ...] = ()
    last_row: int = 0

    def groups(self) -> Iterator[ScalarGroup]:
        """Yield the columns, those with the same steps and times together."""
        together: dict[tuple[int, int], list[ScalarColumn]] = {}
        for column in self.columns:
            together.setdefault((id(column.steps), id(column.times)), []).append(column)
        for columns in together.values():
            yield ScalarGroup(columns[0].steps, columns[0].times, tuple(columns))

    def steps(self) -> list[int]:
        """Return the step of each point, in no order."""
        points = (self.histograms, self.indexed, self.texts, self.images)
        steps = [step for column in self.columns for step in column.steps]
        return steps + [point.step for kind in points for point in kind]

    def approximate_bytes(self) -> int:
        """Return its approximate size in memory."""
        return (
            sum(64 * len(column.steps) for column in self.columns)
            + sum(64 * len(point.counts) + 256 for point in self.histograms)
            + sum(128 * len(point.indices) for point in self.indexed)
            + sum(4 * len(point.text) + 256 for point in self.texts)
            + sum(image.nbytes + 256 for point in self.images for image in point.images_HWC)
        )


@runtime_checkable
class Writer(Protocol):
    """Stores or shows metrics. Called from its own thread, never the training's.

    What it raises is reported once and never reaches the training. It is called again with the same
    batch, and must have undone what it had written of it.
    """

    @property
    def name(self) -> str:
        """The writer's name in messages, e.g. `"sqlite"`."""

    def write(self, batch: Batch) -> None:
        """Take a batch. When it returns, the batch is where it belongs: there is no flush."""

    def close(self) -> None:
        """Release all resources. Called once, from the same thread as `write`."""


@runtime_checkable
class HparamsWriter(Protocol):
    """A writer that also gets the run's hyper-parameters and final status."""

    def write_hparams(self, hparams: Mapping[str, HparamValue]) -> None:
        """Take the hyper-parameters, before the first batch."""

    def write_end(self, status: str, final_metrics: Mapping[str, float]) -> None:
        """Take the status (`completed`, `stopped`, `failed`) and every scalar's last value."""


@runtime_checkable
class TruncatingWriter(Protocol):
    """A writer that keeps history, and can truncate it when a run resumes from a checkpoint."""

    def truncate(self, after_step: int) -> None:
        """Delete every point at a step greater than `after_step`."""


@runtime_checkable
class RowWriter(Writer, Protocol):
    """A writer that puts numbers where they outlive the process, before `save` returns.

    The batches come later all the same; `Batch.last_row` says which rows a batch makes dispensable.
    """

    def put_row(
        self,
        row: int,
        step: int,
        time: float,
        names: tuple[str, ...],
        values: Sequence[float],
        steps: Sequence[int] | None,
        /,
    ) -> bool:
        """Keep what a save measured; return False when there is no room before the next batch.

        Called from the thread that saves, and must not wait.

        Args:
            row: number of the save; those without numbers are left out.
            step: the step of all values.
            time: in seconds since 1970.
            names: of the scalars.
            values: as many.
            steps: the step of each value, where they differ.
        """


@runtime_checkable
class LineWriter(Protocol):
    """A writer that shows values as they come, and can keep some as a line."""

    def new_line(self, step: int, values: Mapping[str, float]) -> None:
        """Keep what is to be printed, as it was at a step, and go on below."""
