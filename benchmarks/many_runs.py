"""What a store of many runs and points costs: pages of lists, watching from the middle, the server's start.

    python benchmarks/many_runs.py [--runs 10000] [--points 10000] [--each]

Every run has so many points of history; `--each` prints every order and filter, not the slowest alone.
Pages and streams are timed in a client of a real server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live_server import LiveServer
from stores import append, copy_to_all, make_events
from table import Row, at_most, markdown

from lab_client import Client
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.watch.history_writer import HistoryWriter

NUM_METRICS = 20
ROUNDS = 9

ORDERS = ("create_time", "name", "step", "state", "metrics.train_loss", "metrics.none")
FILTERS: dict[str, dict[str, Any]] = {
    "no filter": {},
    "experiment": {"experiment": "mnist"},
    "state": {"states": ["FAILED"]},
    "tag": {"tags": ["tag 7"]},
    "name": {"name_contains": "77"},
    "no run": {"tags": ["nobody's"], "name_contains": "x"},
    "condition": {"where": "metrics.metric_3 > 0.5 and config.lr = none and state = completed"},
}


def make_runs(num: int) -> list[Run]:
    """Return runs that differ in all that lists are ordered and filtered by."""
    rng = random.Random(1)
    states = [RunState.COMPLETED] * 8 + [RunState.FAILED, RunState.STOPPED]
    return [
        Run(
            f"20261123-{index:06}-abcdef01",
            RunRequest(
                rng.choice(["mnist", "cifar", "text"]),
                overrides={f"option_{key}": key * 0.1 for key in range(20)},
                name=f"run {rng.randrange(num)}",
                tags=(f"tag {rng.randrange(20)}", "all"),
            ),
            owner=rng.choice(["ann", "bob"]),
            state=rng.choice(states),
            step=rng.randrange(10**6),
            metrics={
                "train_loss": rng.random(),
                **{f"metric_{key}": rng.random() for key in range(NUM_METRICS)},
            },
            create_time_ns=1_763_000_000_000_000_000 + index * 10**9,
        )
        for index in range(num)
    ]


async def fill(home: Path, num_runs: int, points_each: int) -> str:
    """Make a server's home with these runs; return the id of one of them."""
    database = home / "lab.db"
    store = SqlStore(f"sqlite:///{database}")
    runs = make_runs(num_runs)
    first = await store.create(runs[0], None)
    await append(store, first, make_events(points_each, 2), 10_000)
    await HistoryWriter(store).write(first.id)
    await asyncio.gather(*(store.create(run, None) for run in runs[1:]))
    await store.close()
    copy_to_all(database, first.id)
    return runs[num_runs // 2].id


def median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median wall time of some work."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def pages_ms(client: Client) -> dict[str, float]:
    """Return what a page of 50 runs takes, in each order and with each filter."""
    return {
        f"{order}, {name}": median_ms(
            lambda order=order, given=given: list(  # type: ignore[misc]
                client.runs(order_by=order, limit=50, **given)
            )
        )
        for order, (name, given) in itertools.product(ORDERS, FILTERS.items())
    }


def start_s(server: LiveServer) -> float:
    """Return what one start of a server takes, to its ready line."""
    server.stop()
    began = time.perf_counter()
    server.start()
    return time.perf_counter() - began


def rows(num_runs: int = 10_000, points_each: int = 10_000, is_each: bool = False) -> list[Row]:
    """Measure all of it."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        home = Path(name)
        run_id = asyncio.run(fill(home, num_runs, points_each))
        size_gb = (home / "lab.db").stat().st_size / 1e9
        with (
            LiveServer(home, "--slots", "cpu:1") as server,
            Client(server.address) as client,
        ):
            client.wait_ready()
            client.experiments()  # until it has them, it is starting, and imports on both cores
            pages = pages_ms(client)
            run = client.run(run_id)
            middle = run.info.last_seq // 2
            watch_ms = median_ms(lambda: next(iter(run.events(after_seq=middle))))
            starts_s = statistics.median(start_s(server) for _ in range(3))
    if is_each:
        for what, took_ms in pages.items():
            print(f"{what:<40}{took_ms:8.1f} ms")
    slowest = max(pages, key=lambda what: pages[what])
    store = f"{num_runs:,} runs, {num_runs * points_each / 1e6:,.0f} M points, {size_gb:.1f} GB"
    return [
        at_most(
            "a page of ListRuns, the slowest",
            pages[slowest],
            30,
            "ms",
            f"{store}; by {slowest}; median {statistics.median(pages.values()):.0f} ms",
        ),
        at_most("WatchRun from the middle, to its first event", watch_ms, 20, "ms", store),
        at_most("server's start to ready, with many runs", starts_s, 1, "s", store),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=10_000, help="of each run")
    parser.add_argument("--each", action="store_true")
    arguments = parser.parse_args()
    print(markdown(rows(arguments.runs, arguments.points, arguments.each)))
