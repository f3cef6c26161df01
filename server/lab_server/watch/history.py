"""Answers QueryMetrics: from a run's folded history, and the events that came since."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

from lab_server.errors import DamagedHistory
from lab_server.logs import RUNS
from lab_server.store.protocol import History, Store
from lab_server.watch.tails import Tails

if TYPE_CHECKING:
    from lab_server.watch.history_plan import View
    from lab_server.watch.series import Series, Tail

T = TypeVar("T")

_log = structlog.get_logger(RUNS)

MANY_POINTS: Final = 20_000
"""So many take about as long as a thread: a million take a tenth of a second."""

_MANY_CHUNKS: Final = 500
_SUMMARY_POINTS: Final = 80  # of the 4096 points of a chunk

_CHUNKS_AT_ONCE: Final = 8192
"""Of so many chunks, unless one run alone has more, the data is in memory at a time: 12 MB of summaries."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which of a run's points are wanted.

    Attributes:
        last_seq: of the run's log, as far as it is wanted at least.
        max_points: the largest number of points a metric; 0 for all.
        min_step: the first step, None for the first there is.
        max_step: the last step, None for the last there is.
    """

    last_seq: int
    max_points: int = 0
    min_step: int | None = None
    max_step: int | None = None


async def query_metrics(
    store: Store,
    run_id: str,
    *,
    names: Sequence[str] = (),
    max_points: int = 0,
    min_step: int | None = None,
    max_step: int | None = None,
) -> list[Series]:
    """Return a run's metrics by name, without what a resume took back and with each step once.

    Args:
        store: that has the run's events.
        run_id: whose metrics.
        names: of the metrics, with * and ? as wildcards; none for all that the run tracks.
        max_points: the largest number of points a metric; 0 for all.
        min_step: the first step, None for the first there is.
        max_step: the last step, None for the last there is.

    Raises:
        NotFound: If there is no such run.
    """
    last_seq = (await store.get(run_id)).last_seq
    found = await read_views(
        store,
        {run_id: Part(last_seq, max_points, min_step, max_step)},
        lambda _, views, data: _series(views, data, max_points),
        names=names,
    )
    return found.of_runs[run_id]


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was made of the metrics of some runs.

    Attributes:
        of_runs: by the runs' ids.
        num_left_out: how many metrics there are beyond those that were to be read.
    """

    of_runs: Mapping[str, T]
    num_left_out: int


Use = Callable[[str, "Sequence[View]", Mapping[int, bytes]], T]


async def read_views(
    store: Store,
    parts: Mapping[str, Part],
    use: Use[T],
    *,
    names: Sequence[str] = (),
    max_views: int | None = None,
    known: Tails | None = None,
) -> Found[T]:
    """Return what `use` makes, in a thread, of the views of each run's metrics and of the chunks they read.

    Args:
        store: that has the runs' events.
        parts: what is wanted of each run, by its id.
        use: gets a run's id, its views, and the data of all chunks that these read.
        names: of the metrics, with * and ? as wildcards; none for all that a run tracks.
        max_views: of all runs together; None for all.
        known: what has been read of the runs' logs beyond their histories, for who asks again.
    """
    known = known or Tails()
    last_seqs = {run_id: part.last_seq for run_id, part in parts.items()}
    is_anew = False
    while True:
        read = await known.read(store, last_seqs, names, is_anew=is_anew)
        num_chunks = sum(len(history.chunks) for history, _ in read.values())
        views, num_left_out = await in_thread_if_long(
            num_chunks, _MANY_CHUNKS, partial(_views, parts, read, max_views)
        )
        of_runs: dict[str, T] = {}
        for group in _groups(views):
            some = await _use_group(store, group, use)
            if some is None:
                break
            of_runs |= some
        else:
            return Found(of_runs, num_left_out)
        is_anew = True


async def in_thread_if_long(num: int, many: int, work: Callable[[], T]) -> T:
    """Return what some work comes to: done in a thread if it is about many things, else at once.

    A thread costs more than little work, and much work at once would hold up everything else.
    """
    # numpy, which this may import, costs 0.1 s
    is_long = num >= many or "numpy" not in sys.modules
    return await asyncio.to_thread(work) if is_long else work()


def _views(
    parts: Mapping[str, Part], read: Mapping[str, tuple[History, Tail]], max_views: int | None
) -> tuple[dict[str, list[View]], int]:
    """Return the views of each run, the first so many, and how many are left out."""
    # numpy costs 0.1 s of the server's start
    from lab_server.watch.history_plan import views

    found: dict[str, list[View]] = {}
    num_all = num_kept = 0
    for run_id, part in parts.items():
        history, tail = read[run_id]
        each = views(history.chunks, tail, part.max_points, part.min_step, part.max_step)
        found[run_id] = each if max_views is None else each[: max_views - num_kept]
        num_all += len(each)
        num_kept += len(found[run_id])
    return found, num_all - num_kept


def _groups(views: Mapping[str, list[View]]) -> Iterator[dict[str, list[View]]]:
    """Yield the views of some runs at a time, whose chunks fit in memory together."""
    group: dict[str, list[View]] = {}
    num_chunks = 0
    for run_id, found in views.items():
        num = sum(len(view.point_ids) + len(view.summaries) for view in found)
        if group and num_chunks + num > _CHUNKS_AT_ONCE:
            yield group
            group, num_chunks = {}, 0
        group[run_id] = found
        num_chunks += num
    yield group


async def _use_group(
    store: Store, group: Mapping[str, Sequence[View]], use: Use[T]
) -> dict[str, T] | None:
    """Return what is made of some runs' views; None if their histories were changed meanwhile."""
    views = [view for found in group.values() for view in found]
    points = [chunk_id for view in views for chunk_id in view.point_ids]
    summaries = [chunk.id for view in views for chunk in view.summaries]
    data = await store.chunk_data(points, "points") if points else {}
    if summaries:
        data |= await store.chunk_data(summaries, "summary")
    if len(data) < len(points) + len(summaries):
        return None
    damaged: dict[str, DamagedHistory] = {}

    def use_all() -> dict[str, T]:
        made = {}
        for run_id, found in group.items():
            try:
                made[run_id] = use(run_id, found, data)
            except DamagedHistory as error:
                damaged[run_id] = error
        return made

    num_points = sum(view.num_points for view in views) + _SUMMARY_POINTS * len(summaries)
    made = await in_thread_if_long(num_points, MANY_POINTS, use_all)
    for run_id, error in damaged.items():
        await drop_damaged(store, run_id, error)
    return None if damaged else made


async def drop_damaged(store: Store, run_id: str, error: DamagedHistory) -> None:
    """Drop a history that cannot be read; it is made again from the log."""
    _log.error("a history is damaged; making it again from the log", run=run_id, error=str(error))
    await store.drop_history(run_id)


def _series(found: Sequence[View], data: Mapping[int, bytes], max_points: int) -> list[Series]:
    each = (view.series(data, max_points) for view in found)
    return [series for series in each if series is not None]
