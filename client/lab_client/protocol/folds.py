"""What becomes of an event on its way to the caller: an event, a batch, points, log lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab_client.events import (
    Event,
    Log,
    LogLevel,
    LogLine,
    Metrics,
    MetricsBatch,
    Point,
    each_point,
)
from lab_client.protocol import event_convert
from lab_rpc.metric_names import SYSTEM_PREFIX, matcher
from lab_rpc.v1 import event_pb2


def to_events(message: event_pb2.RunEvent) -> tuple[Event]:
    """The event itself."""
    return (event_convert.event(message),)


def to_batches(message: event_pb2.RunEvent) -> Sequence[MetricsBatch]:
    """Metrics and truncations, by columns."""
    kind = message.WhichOneof("kind")
    if kind == "metrics":
        return (
            MetricsBatch(
                message.seq,
                message.attempt,
                event_convert.metrics(message.metrics, message.attempt),
            ),
        )
    if kind == "truncate":
        after = message.truncate.after_step
        return (MetricsBatch(message.seq, message.attempt, None, truncate_after=after),)
    return ()


class LineFold:
    """Log lines, one by one.

    Args:
        level: leave out less serious ones.
    """

    def __init__(self, level: LogLevel | str) -> None:
        self._level = event_convert.log_level(level)

    def __call__(self, message: event_pb2.RunEvent) -> Sequence[LogLine]:
        """Return the lines of an event."""
        if not message.HasField("log"):
            return ()
        log = event_convert.event(message).body
        assert isinstance(log, Log)
        if not log.level.reaches(self._level):
            return ()
        attempt, time_unix_ns = message.attempt, message.time_unix_ns
        return [LogLine(log.level, line, attempt, time_unix_ns) for line in log.lines]


class PointFold:
    """Points, row by row, of the metrics that are wanted.

    Args:
        names: globs; empty wants all that the run tracks.
        every: keep at most one value of each metric in this many steps.
    """

    def __init__(self, names: Iterable[str], every: int) -> None:
        globs = list(names)
        self._is_wanted = matcher(globs) if globs else None
        self._every = every
        self._next_step: dict[str, int] = {}

    def __call__(self, message: event_pb2.RunEvent) -> Iterable[Point]:
        """Return the points of an event, to go through once."""
        kind = message.WhichOneof("kind")
        if kind == "truncate":
            # What is measured again counts again, and is thinned as it was the first time.
            after = message.truncate.after_step
            self._next_step = {k: min(v, after + 1) for k, v in self._next_step.items()}
        if kind != "metrics":
            return ()
        metrics = event_convert.metrics(message.metrics, message.attempt)
        if self._is_wanted is not None:
            wanted = self._is_wanted
            columns = {name: column for name, column in metrics.columns.items() if wanted(name)}
            metrics = Metrics(metrics.steps, columns, metrics.attempt)
        elif any(name.startswith(SYSTEM_PREFIX) for name in metrics.columns):
            return ()  # the trainer tells of its machine in events of their own
        if not metrics.columns:
            return ()
        points = each_point(metrics)
        return points if self._every <= 1 else self._thin(points)

    def _thin(self, points: Iterable[Point]) -> list[Point]:
        next_step, kept_points = self._next_step, []
        for step, values, attempt in points:
            kept = {k: v for k, v in values.items() if step >= next_step.get(k, step)}
            if kept:
                next_step.update(dict.fromkeys(kept, step + self._every))
                kept_points.append(Point(step, kept, attempt))
        return kept_points
