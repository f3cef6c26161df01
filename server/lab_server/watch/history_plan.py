"""What events change of a metric's history: which chunks stay, and which are made anew.

Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lab_server.store.protocol import SeriesChunk
from lab_server.watch import chunks as codec
from lab_server.watch.chunks import decode_points, points_of_summaries
from lab_server.watch.items import Items, items_of
from lab_server.watch.series import Points, Series, Tail, last_of_each_step, series_of

_FINE_POINTS: Final = 256
"""For each point asked for; of more points a plot is made from summaries: one bucket at least for each."""

NO_POINTS: Points = (np.empty(0, np.int64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class Plan:
    """The chunks of one metric beside newer events.

    Attributes:
        kept: chunks that hold what they held.
        merged: chunks between, among or at the ends of whose points the new ones belong.
        dropped: chunks that a truncate took back whole.
        cut: the last step of the old points that counts, None for all.
        new: the points of the newer events, each step once.
    """

    kept: Sequence[SeriesChunk]
    merged: Sequence[SeriesChunk]
    dropped: Sequence[SeriesChunk]
    cut: int | None
    new: Points

    def points(self, data: Mapping[int, bytes]) -> Points:
        """Return the points that take the place of the merged chunks, by step.

        Args:
            data: the encoded points of the merged chunks.

        Raises:
            DamagedHistory: If they are damaged.
        """
        if not self.merged:
            return self.new
        old = [decode_points(data[chunk.id], chunk.num_points) for chunk in self.merged]
        steps = np.concatenate([steps for steps, _ in old] or [NO_POINTS[0]])
        values = np.concatenate([values for _, values in old] or [NO_POINTS[1]])
        if self.cut is not None:
            keep = steps <= self.cut
            steps, values = steps[keep], values[keep]
        return last_of_each_step(
            np.concatenate([steps, self.new[0]]), np.concatenate([values, self.new[1]])
        )


def plan(
    chunks: Sequence[SeriesChunk], new: Points, cut: int | None, *, is_filling: bool = False
) -> Plan:
    """Return what newer events change.

    Args:
        chunks: of one metric, by step.
        new: the events' own points.
        cut: the last step that the events' truncates left, None without one.
        is_filling: merge with a last chunk that is not full, so that chunks do not stay small.
    """
    there = [chunk for chunk in chunks if cut is None or chunk.first_step <= cut]
    dropped = chunks[len(there) :]
    ends = [int(new[0][0]), int(new[0][-1])] if len(new[0]) else []
    if there and cut is not None and there[-1].last_step > cut:
        ends += [there[-1].first_step, there[-1].last_step]
    has_room = bool(there) and there[-1].num_points < codec.MAX_CHUNK_POINTS
    if is_filling and has_room and ends and min(ends) > there[-1].last_step:
        ends.append(there[-1].last_step)
    if not ends:
        return Plan(there, (), dropped, cut, new)
    # all that lies between goes along: chunks must not overlap
    first, last = min(ends), max(ends)
    merged = [chunk for chunk in there if chunk.last_step >= first and chunk.first_step <= last]
    ids = {chunk.id for chunk in merged}
    return Plan([chunk for chunk in there if chunk.id not in ids], merged, dropped, cut, new)


@dataclass(frozen=True, slots=True)
class View:
    """What a query reads of one metric: of some chunks all points, of others only their summaries.

    Attributes:
        summaries: the chunks of which summaries do, all of whose points are in the range.
        points: the chunks of which all points are needed, but for those that the plan merges.
    """

    name: str
    plan: Plan
    summaries: Sequence[SeriesChunk]
    points: Sequence[SeriesChunk]
    min_step: int | None
    max_step: int | None

    @property
    def num_points(self) -> int:
        """How many points are read one by one, about."""
        of_chunks = sum(chunk.num_points for chunk in (*self.points, *self.plan.merged))
        return of_chunks + len(self.plan.new[0])

    @property
    def point_ids(self) -> list[int]:
        """The ids of the chunks all of whose points are read."""
        return [chunk.id for chunk in (*self.points, *self.plan.merged)]

    def series(self, data: Mapping[int, bytes], max_points: int) -> Series | None:
        """Return the metric with at most so many points, 0 for all; None without any.

        Args:
            data: the summaries and points that the view reads, by the ids of the chunks.
            max_points: the largest number of points, 0 for all.

        Raises:
            DamagedHistory: If they are.
        """
        parts = [decode_points(data[chunk.id], chunk.num_points) for chunk in self.points]
        parts.append(self.plan.points(data))
        parts = [self._in_range(part) for part in parts]
        num_points = sum(len(steps) for steps, _ in parts)
        num_points += sum(chunk.num_points for chunk in self.summaries)
        if not num_points:
            return None
        parts.append(points_of_summaries([data[chunk.id] for chunk in self.summaries]))
        steps, values = last_of_each_step(
            np.concatenate([steps for steps, _ in parts]),
            np.concatenate([values for _, values in parts]),
        )
        return series_of(self.name, steps, values, num_points, max_points)

    def items(self, data: Mapping[int, bytes]) -> Items:
        """Return the metric's points in the range, or what stands for them, for a chart's buckets.

        Raises:
            DamagedHistory: If what is read is damaged.
        """
        parts = [decode_points(data[chunk.id], chunk.num_points) for chunk in self.points]
        parts.append(self.plan.points(data))
        return items_of(
            [self._in_range(part) for part in parts], [data[c.id] for c in self.summaries]
        )

    def _in_range(self, points: Points) -> Points:
        steps, values = points
        first = 0 if self.min_step is None else steps.searchsorted(self.min_step)
        end = (
            len(steps) if self.max_step is None else steps.searchsorted(self.max_step, side="right")
        )
        return steps[first:end], values[first:end]


def views(
    chunks: Sequence[SeriesChunk],
    tail: Tail,
    max_points: int,
    min_step: int | None,
    max_step: int | None,
) -> list[View]:
    """Return what a query has to read, by the names of the metrics.

    Args:
        chunks: a run's history.
        tail: the events that came after it.
        max_points: the largest number of points a metric, 0 for all.
        min_step: the first step, None for the first there is.
        max_step: the last step, None for the last there is.
    """
    first = -math.inf if min_step is None else min_step
    last = math.inf if max_step is None else max_step
    found = []
    for name, planned in sorted(plans(chunks, tail).items()):
        near = [c for c in planned.kept if c.last_step >= first and c.first_step <= last]
        whole = [c for c in near if c.first_step >= first and c.last_step <= last]
        num_points = sum(chunk.num_points for chunk in whole)
        is_fine = not max_points or num_points <= max_points * _FINE_POINTS
        summaries = [] if is_fine else whole
        ids = {chunk.id for chunk in summaries}
        points = [chunk for chunk in near if chunk.id not in ids]
        found.append(View(name, planned, summaries, points, min_step, max_step))
    return found


def plans(
    chunks: Sequence[SeriesChunk], tail: Tail, *, is_filling: bool = False
) -> dict[str, Plan]:
    """Return what the events of a tail change of each metric of a history; see `plan`."""
    new = tail.points
    of_metric: dict[str, list[SeriesChunk]] = {name: [] for name in new}
    for chunk in chunks:
        of_metric.setdefault(chunk.metric, []).append(chunk)
    return {
        name: plan(found, new.get(name, NO_POINTS), tail.cut, is_filling=is_filling)
        for name, found in of_metric.items()
    }
