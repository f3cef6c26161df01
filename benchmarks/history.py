"""What the history of long runs costs: space on the disk, and queries.

    python benchmarks/history.py [--points 1000000] [--steps-an-event 2] [--at-once 10000]

A query is cold when the store has just been opened and its file is read from the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from stores import NUM_METRICS, append, copy_to_all, forget, make_events, size_of
from table import Row, at_most, markdown

from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.watch.history import query_metrics
from lab_server.watch.history_writer import HistoryWriter

_ROUNDS = 5


async def _ms(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return 1e3 * (time.perf_counter() - began)


async def _reopened(folder: Path, store: SqlStore) -> SqlStore:
    await store.close()
    forget(folder)
    return _open(folder)


def _open(folder: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{folder}/lab.db")


async def _fill(folder: Path, num_points: int, steps_an_event: int, at_once: int) -> SqlStore:
    """Return a store of a run r0 with so many points, folded and compacted."""
    store = _open(folder)
    run = await store.create(Run("r0", RunRequest("mnist"), state=RunState.COMPLETED), None)
    await append(store, run, make_events(num_points, steps_an_event), at_once)
    await HistoryWriter(store).write("r0")
    return store


async def long_run(
    num_points: int, steps_an_event: int, at_once: int, cold_s: float, warm_s: float
) -> list[Row]:
    """Measure one run: the query of all of it, cold and warm, a narrow range, and its size."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        folder = Path(name)
        store = await _fill(folder, num_points, steps_an_event, at_once)
        cold = []
        for _ in range(_ROUNDS):
            store = await _reopened(folder, store)
            cold.append(await _ms(query_metrics(store, "r0", max_points=1000)))
        middle = num_points // NUM_METRICS // 2
        warm = [await _ms(query_metrics(store, "r0", max_points=1000)) for _ in range(_ROUNDS)]
        narrow = [
            await _ms(query_metrics(store, "r0", min_step=middle, max_step=middle + 999))
            for _ in range(_ROUNDS)
        ]
        everything = await _ms(query_metrics(store, "r0"))
        await store.close()
        size = size_of(folder) / num_points
    what = f"{num_points / 1e6:g} M points of {steps_an_event}-step events"
    return [
        at_most(
            f"history to 1,000 points, cold, {what}", statistics.median(cold), 1e3 * cold_s, "ms"
        ),
        at_most(
            f"history to 1,000 points, warm, {what}", statistics.median(warm), 1e3 * warm_s, "ms"
        ),
        Row(
            f"history of 1,000 steps, {what}",
            f"{statistics.median(narrow):.1f} ms",
            f"all of it: {everything:.0f} ms",
            everything / statistics.median(narrow),
        ),
        at_most(f"disk at rest, {what}", size, 16, "bytes a point"),
    ]


async def page(num_runs: int, num_points: int) -> list[Row]:
    """Measure one metric of each of many runs, cold, one query after the other."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        folder = Path(name)
        store = await _fill(folder, num_points, 2, 10_000)
        for index in range(1, num_runs):
            await store.create(
                Run(f"r{index}", RunRequest("mnist"), state=RunState.COMPLETED), None
            )
        await store.close()
        copy_to_all(folder / "lab.db", "r0")
        took = []
        for _ in range(3):
            store = await _reopened(folder, store)
            began = time.perf_counter()
            for index in range(num_runs):
                (series,) = await query_metrics(
                    store, f"r{index}", names=["train_loss"], max_points=1000
                )
                assert len(series.steps) >= 900
            took.append(time.perf_counter() - began)
        await store.close()
    what = f"history of {num_runs} runs, a metric of each, {num_points / 1e6:g} M points each, cold"
    return [at_most(what, statistics.median(took), 1, "s")]


def rows() -> list[Row]:
    """Measure all of it; the run of 10 M points in events that take less time to make."""
    return [
        *asyncio.run(long_run(1_000_000, 2, 10_000, 0.5, 0.05)),
        *asyncio.run(long_run(10_000_000, 50, 10_000, 1.0, 1.0)),
        *asyncio.run(page(50, 1_000_000)),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--steps-an-event", type=int, default=2)
    parser.add_argument(
        "--at-once", type=int, default=10_000, help="events a commit; 1 for live rows"
    )
    given = parser.parse_args()
    print(
        markdown(asyncio.run(long_run(given.points, given.steps_an_event, given.at_once, 1.0, 1.0)))
    )
