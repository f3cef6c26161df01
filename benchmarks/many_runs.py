"""What a store of many runs costs: pages of lists in every order, the server's start, the counts of a scrape.

python benchmarks/many_runs.py [--runs 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import RunQuery, SqlStore
from lab_server.where import parse, parse_name

NUM_METRICS = 20
ROUNDS = 15

ORDERS = ("create_time", "name", "step", "state", "metrics.train_loss", "metrics.none")
FILTERS = {
    "no filter": RunQuery(),
    "experiment": RunQuery(experiment="mnist"),
    "state": RunQuery(states=frozenset({RunState.FAILED})),
    "tag": RunQuery(tags=frozenset({"tag 7"})),
    "name": RunQuery(name_contains="77"),
    "owner": RunQuery(owner="ann"),
    "no run": RunQuery(tags=frozenset({"nobody's"}), name_contains="x"),
    "condition": RunQuery(where=parse("accuracy > 0.5 and config.lr = none and state = completed")),
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


async def figure(work: Callable[[], Awaitable[object]]) -> str:
    """Return the medians of the wall and the processor time of some work."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        await work()
        walls.append(time.perf_counter() - begin)
        cpus.append(time.process_time() - begin_cpu)
    wall, cpu = (statistics.median(times) * 1000 for times in (walls, cpus))
    return f"{wall:7.1f} ms, processor {cpu:7.1f} ms"


async def main(num_runs: int) -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'lab.db'}"
        store = SqlStore(url)
        runs = make_runs(num_runs)
        await asyncio.gather(*(store.create(run, None) for run in runs))
        await store.close()
        begin = time.perf_counter()
        store = SqlStore(url)
        await store.unfinished()
        print(
            f"{num_runs:,} runs; the store opens in {(time.perf_counter() - begin) * 1000:.1f} ms"
        )
        print(f"{'counts of the states':<44}{await figure(store.counts)}")
        print(f"{'runs with a history behind':<44}{await figure(store.runs_with_history_behind)}")
        for order, (name, query) in itertools.product(ORDERS, FILTERS.items()):
            name_of_order = parse_name(order)
            assert name_of_order is not None
            first = dataclasses.replace(query, order_by=name_of_order, limit=50)
            page = await store.list(first)
            what = f"{order}, {name}"
            print(f"{what:<44}{await figure(partial(store.list, first))}", flush=True)
            if page.next_after and name == "no filter":
                second = dataclasses.replace(first, after=page.next_after)
                text = await figure(partial(store.list, second))
                print(f"{what + ', second page':<44}{text}", flush=True)
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    asyncio.run(main(parser.parse_args().runs))
