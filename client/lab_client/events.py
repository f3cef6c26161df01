"""What comes out of a run's event log: events, batches of metrics, points, log lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from lab_client.configs import PlanItem
from lab_client.media import Media
from lab_client.provenance import Provenance
from lab_client.runs import Artifact, RunState


class LogLevel(StrEnum):
    """What a line of a run's log is, from the least to the most serious.

    STDOUT and STDERR are what was printed to standard output and error; warnings and errors of Python's
    `warnings` and `logging` and of lab_core's logger are WARNING and ERROR.
    """

    DEBUG = "DEBUG"
    INFO = "INFO"
    STDOUT = "STDOUT"
    STDERR = "STDERR"
    WARNING = "WARNING"
    ERROR = "ERROR"

    def reaches(self, level: LogLevel) -> bool:
        """Whether it is at least as serious as another."""
        return _SEVERITY.index(self) >= _SEVERITY.index(level)


_SEVERITY = tuple(LogLevel)


@dataclass(frozen=True, slots=True)
class StateChange:
    """The run's state changed.

    Attributes:
        state: the new state.
        reason: one sentence: why.
        traceback: when an error of the experiment ended the run.
    """

    state: RunState
    reason: str
    traceback: str


class Column(NamedTuple):
    """The values of one metric in one batch.

    Attributes:
        values: one a row.
        rows: for each value the index of its step in the batch; empty when there is one a step.
    """

    values: Sequence[float]
    rows: Sequence[int]


class Point(NamedTuple):
    """What was measured at one step. A named tuple, because a million are made in a second.

    Attributes:
        step: the global step.
        values: the values, by metric.
        attempt: which try of the run measured it; a step that comes again has a higher one.

    Example:
        >>> from lab_client import Point
        >>> step, values, attempt = Point(40, {"train_loss": 0.25}, 1)
        >>> values["train_loss"]
        0.25
    """

    step: int
    values: dict[str, float]
    attempt: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of one or more steps, by columns.

    Attributes:
        steps: the steps at which something was measured, ascending.
        columns: one a metric, by its name.
        attempt: which try of the run measured them.
    """

    steps: Sequence[int]
    columns: Mapping[str, Column]
    attempt: int

    def points(self) -> list[Point]:
        """Return the batch row by row."""
        return list(each_point(self))


def each_point(metrics: Metrics) -> Iterator[Point]:
    """Yield a batch row by row: who keeps no list of points spares Python's collector most of its work."""
    attempt, columns = metrics.attempt, metrics.columns
    if not columns:
        return
    if not any(column.rows for column in columns.values()):
        names = tuple(columns)
        rows = zip(*(column.values for column in columns.values()), strict=True)
        # tuple.__new__ past the named tuple's own constructor: half the time of a point.
        new, kind = tuple.__new__, Point
        for step, row in zip(metrics.steps, rows, strict=True):
            yield new(kind, (step, dict(zip(names, row)), attempt))  # noqa: B905  # hot
        return
    found: list[dict[str, float]] = [{} for _ in metrics.steps]
    for name, column in columns.items():
        indices = column.rows or range(len(metrics.steps))
        for index, value in zip(indices, column.values, strict=True):
            found[index][name] = value
    for step, values in zip(metrics.steps, found, strict=True):
        if values:
            yield Point(step, values, attempt)


@dataclass(frozen=True, slots=True)
class Log:
    """Lines that the trainer logged or printed."""

    level: LogLevel
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is.

    Attributes:
        step: the global step that was reached.
        total_steps: the step at which the run will end; 0 when not known.
        steps_per_second: the speed over the last seconds.
    """

    step: int
    total_steps: int
    steps_per_second: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is complete on disk.

    Attributes:
        step: the global step it was taken at.
        size_bytes: its size.
        damage: set when it was passed over instead: what is wrong with it.
    """

    step: int
    size_bytes: int
    damage: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """The attempt resumed from a checkpoint: what was measured later no longer counts.

    Attributes:
        after_step: the last step that counts; -1 for none.
        checkpoint_step: the step of the checkpoint; None when the attempt began anew.
    """

    after_step: int
    checkpoint_step: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The configs as the trainer resolved them."""

    items: tuple[PlanItem, ...]


EventBody: TypeAlias = "StateChange | Metrics | Log | Progress | Checkpoint | Truncate | Config | Artifact | Provenance | Media | None"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a run's event log.

    Attributes:
        seq: gap-free from 1 within a run.
        attempt: which try of the run wrote it, from 1; 0 before the first try.
        time_unix_ns: when it happened.
        body: what happened; None for a kind that this version of the client does not know.

    Example:
        >>> from lab_client.events import Event, StateChange
        >>> def tell(event: Event) -> str:
        ...     match event.body:
        ...         case StateChange(state=state):
        ...             return f"{event.seq}: {state}"
        ...         case _:
        ...             return f"{event.seq}: {event.kind}"
    """

    seq: int
    attempt: int
    time_unix_ns: int
    body: EventBody

    @property
    def time(self) -> datetime:
        """When it happened, in UTC."""
        return datetime.fromtimestamp(self.time_unix_ns / 1e9, UTC)

    @property
    def kind(self) -> str:
        """The kind as a word: "state", "metrics", "log", …; "unknown" for one of a newer server."""
        return _KINDS.get(type(self.body), "unknown")


_KINDS: dict[type, str] = {
    StateChange: "state",
    Metrics: "metrics",
    Log: "log",
    Progress: "progress",
    Checkpoint: "checkpoint",
    Truncate: "truncate",
    Config: "config",
    Artifact: "artifact",
    Provenance: "provenance",
    Media: "media",
}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the trainer logged or printed."""

    level: LogLevel
    text: str
    attempt: int
    time_unix_ns: int


@dataclass(frozen=True, slots=True)
class MetricsBatch:
    """The metrics of one event, by columns: the fastest way to read a run.

    Attributes:
        seq: the event's seq.
        attempt: which try of the run measured it.
        metrics: the columns; None when the batch is a truncation.
        truncate_after: drop what was measured later than this step; None when it is not one.
    """

    seq: int
    attempt: int
    metrics: Metrics | None
    truncate_after: int | None = None


@dataclass(frozen=True, slots=True)
class MetricsUpdate:
    """An event of one run, in a stream of many runs.

    Attributes:
        run_id: the run.
        experiment: the experiment's name.
        event: of the kinds metrics, truncate or state.
        cursor: give this to `watch_metrics` to go on after what was seen. It stands for a whole
            answer of the server, so after a restart up to one answer may come again; `event.seq`
            tells.
    """

    run_id: str
    experiment: str
    event: Event
    cursor: str
