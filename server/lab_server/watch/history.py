"""Answers QueryMetrics: from a run's folded history, and the events that came since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from lab_rpc.metric_names import matcher
from lab_server.errors import DamagedHistory
from lab_server.logs import RUNS
from lab_server.store.protocol import Store

if TYPE_CHECKING:
    from lab_server.watch.history_plan import View
    from lab_server.watch.series import MetricFold, Series

T = TypeVar("T")

_log = structlog.get_logger(RUNS)

_KINDS: Final = frozenset({"metrics", "truncate"})
_READ_BYTES: Final = 1 << 20


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
    return await read_views(
        store,
        run_id,
        lambda found, data: _series(found, data, max_points),
        names=names,
        max_points=max_points,
        min_step=min_step,
        max_step=max_step,
    )


async def read_views(
    store: Store,
    run_id: str,
    use: Callable[[Sequence[View], Mapping[int, bytes]], T],
    *,
    names: Sequence[str] = (),
    max_points: int = 0,
    min_step: int | None = None,
    max_step: int | None = None,
) -> T:
    """Return what `use` makes, in a thread, of the views of a run's metrics and of the chunks they read.

    The other arguments are those of `query_metrics`.

    Raises:
        NotFound: If there is no such run.
    """
    is_wanted = matcher(names)
    while True:
        history = await store.history(run_id, is_wanted)
        # read after the history, which so is never ahead of it
        last_seq = (await store.get(run_id)).last_seq
        tail = await read_tail(store, run_id, history.last_seq, last_seq, is_wanted)
        # numpy costs 0.1 s of the server's start
        from lab_server.watch.history_plan import views

        found = await asyncio.to_thread(views, history.chunks, tail, max_points, min_step, max_step)
        points = [c.id for view in found for c in (*view.points, *view.plan.merged)]
        summaries = [c.id for view in found for c in view.summaries]
        data = await store.chunk_data(points, "points") if points else {}
        if summaries:
            data |= await store.chunk_data(summaries, "summary")
        if len(data) < len(points) + len(summaries):
            continue  # the history was taken further meanwhile
        try:
            # not in the event loop: a million points take a tenth of a second
            return await asyncio.to_thread(use, found, data)
        except DamagedHistory as error:
            await drop_damaged(store, run_id, error)


async def drop_damaged(store: Store, run_id: str, error: DamagedHistory) -> None:
    """Drop a history that cannot be read; it is made again from the log."""
    _log.error("a history is damaged; making it again from the log", run=run_id, error=str(error))
    await store.drop_history(run_id)


async def read_tail(
    store: Store,
    run_id: str,
    after_seq: int,
    last_seq: int,
    is_wanted: Callable[[str], bool] = lambda _: True,
) -> MetricFold:
    """Return the fold of a log's events from one seq to another."""
    from lab_server.watch.series import MetricFold

    tail = MetricFold(is_wanted)
    seq = after_seq
    while seq < last_seq:
        events = await store.events(run_id, seq, _READ_BYTES, _KINDS)
        payloads = [event.payload for event in events if event.seq <= last_seq]
        if payloads:
            await asyncio.to_thread(tail.add, payloads)
        seq = events[-1].seq if events else last_seq
    return tail


def _series(found: Sequence[View], data: Mapping[int, bytes], max_points: int) -> list[Series]:
    each = (view.series(data, max_points) for view in found)
    return [series for series in each if series is not None]
