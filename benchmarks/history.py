"""What the history of long runs costs: ingest, space on the disk, and queries.

    python benchmarks/history.py [--points 1000000] [--runs 50]

Stores runs of 2 metrics in events of a few steps, as a trainer at 60 steps a second writes them: the
values are float32, as torch's are. Processor time is what counts on a machine that does other things, so
both are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import math
import random
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.watch.history import query_metrics
from lab_server.watch.history_writer import MAX_BEHIND, HistoryWriter

NUM_METRICS = 2
MAX_LIVE_EVENTS = 64  # of more at once the store makes blocks
STEPS_PER_S = 60


@dataclasses.dataclass
class Column:
    """A column as the tracker gives it to the spool writer."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


@contextlib.contextmanager
def measured(what: str, per: int = 0, unit: str = "point") -> Iterator[None]:
    """Print the wall and processor time of what is done inside."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    rate = f", {per / cpu:,.0f} {unit}s a second of processor time" if per else ""
    print(f"{what:<58} {wall * 1000:9.1f} ms, processor {cpu * 1000:9.1f} ms{rate}", flush=True)


def make_events(num_points: int, steps_an_event: int) -> list[EncodedEvent]:
    """Return the events of a run."""
    rng = random.Random(1)
    found = []
    now_ns = 1_763_000_000_000_000_000
    for first in range(0, num_points // NUM_METRICS, steps_an_event):
        steps = range(first, min(first + steps_an_event, num_points // NUM_METRICS))
        now_ns += round(steps_an_event / STEPS_PER_S * 1e9) + rng.randrange(10**6)
        columns = [
            Column(name, steps, [_float32(math.exp(-s / 1e5) + rng.gauss(0, 0.1)) for s in steps])
            for name in ("train_loss", "accuracy")
        ]
        found += events.encode_metrics(1, now_ns, columns)
    return found


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


async def add_run(store: SqlStore, run_id: str, new: Sequence[EncodedEvent], at_once: int) -> None:
    """Store a run, so many events a commit: many as a follower that is behind does, few as one that is not."""
    is_live = at_once < MAX_LIVE_EVENTS
    run = await store.create(Run(run_id, RunRequest("mnist"), state=RunState.COMPLETED), None)
    for start in range(0, len(new), at_once):
        piece = new[start : start + at_once]
        run = dataclasses.replace(run, last_seq=run.last_seq + len(piece))
        await store.commit(run, piece)
        if is_live and (start + at_once) // MAX_BEHIND > start // MAX_BEHIND:
            await HistoryWriter(store).write(run_id)


def size_of(folder: Path) -> int:
    """Return the bytes of the store's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


async def main(num_points: int, num_runs: int, steps_an_event: int, at_once: int) -> None:
    """Print all figures."""
    new = make_events(num_points, steps_an_event)
    print(f"{num_points:,} points, {steps_an_event} steps an event, {at_once} events a commit")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = SqlStore(f"sqlite:///{folder}/lab.db")
        with measured("store the events", num_points):
            await add_run(store, "r0", new, at_once)
        with measured("query from the log alone, to 1000 points"):
            await query_metrics(store, "r0", max_points=1000)
        with measured("write the history, compact the log", num_points):
            await HistoryWriter(store).write("r0")
        await store.close()
        print(f"at rest: {size_of(folder) / num_points:.1f} bytes a point")
        store = SqlStore(f"sqlite:///{folder}/lab.db")
        for what in ("cold", "warm", "warm"):
            with measured(f"query to 1000 points, {what}"):
                await query_metrics(store, "r0", max_points=1000)
        with measured("query of 1000 steps in the middle"):
            middle = num_points // NUM_METRICS // 2
            await query_metrics(store, "r0", min_step=middle, max_step=middle + 999)
        with measured("query of all points"):
            await query_metrics(store, "r0")
        with measured("256 KiB of events from the middle"):
            await store.events("r0", len(new) // 2, 256 << 10)
        for index in range(1, num_runs):
            await add_run(store, f"r{index}", new, 20_000)
            await HistoryWriter(store).write(f"r{index}")
        await store.close()
        store = SqlStore(f"sqlite:///{folder}/lab.db")
        with measured(f"a page of {num_runs} runs, one metric, to 1000 points, cold"):
            for index in range(num_runs):
                await query_metrics(store, f"r{index}", names=["train_loss"], max_points=1000)
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--steps-an-event", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=10_000, help="1 for live rows")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.points, arguments.runs, arguments.steps_an_event, arguments.at_once))
