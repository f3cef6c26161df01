"""Answers QueryMetrics from a run's event log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lab_rpc.metric_names import matcher
from lab_server.store.protocol import Store

if TYPE_CHECKING:
    from lab_server.watch.series import Series

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
        names: of the metrics, with * and ? as wildcards; none for all.
        max_points: the largest number of points a metric; 0 for all.
        min_step: the first step, None for the first there is.
        max_step: the last step, None for the last there is.

    Raises:
        NotFound: If there is no such run.
    """
    # numpy costs 0.1 s of the server's start
    from lab_server.watch.series import MetricFold

    last_seq = (await store.get(run_id)).last_seq
    fold = MetricFold(matcher(names), min_step, max_step)
    seq = 0
    while seq < last_seq:
        events = await store.events(run_id, seq, _READ_BYTES, _KINDS)
        if not events:
            break
        seq = events[-1].seq
        # a million points take a tenth of a second: not in the event loop
        await asyncio.to_thread(fold.add, [event.payload for event in events])
    return await asyncio.to_thread(fold.series, max_points)
