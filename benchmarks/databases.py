"""SQLite beside PostgreSQL: what a commit, a read and a page cost; and what a follower sees.

    python benchmarks/databases.py [--rounds 3] [--events 100000]

The PostgreSQL is one of its own, on the same disk, through a Unix socket, with `fsync` on. Prints medians over
the rounds, in which the stores take turns. Then four writers commit so many events to the PostgreSQL while a
follower publishes them: it must see each position once, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from local_postgres import MISSING, Postgres, start_postgres

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest
from lab_server.store import RunQuery, SqlStore, StoredEvent
from lab_server.supervisor.following import Following
from lab_server.watch.hub import Hub

NUM_WRITERS = 4
NUM_RUNS = 300


def some_events(num: int) -> list[EncodedEvent]:
    """Return events of about the size that a training's are."""
    return [events.encode_log(1, index, ["x" * 200])[0] for index in range(num)]


async def new_run(store: SqlStore, run_id: str) -> Run:
    return await store.create(Run(run_id, RunRequest("mnist", tags=("a",))), None)


async def write(store: SqlStore, run: Run, num: int, at_once: int) -> list[float]:
    """Commit events, so many at once, and return the seconds of each commit."""
    seconds = []
    batch = some_events(at_once)
    for _ in range(num // at_once):
        run = dataclasses.replace(run, last_seq=run.last_seq + at_once)
        begin = time.perf_counter()
        await store.commit(run, batch)
        seconds.append(time.perf_counter() - begin)
    return seconds


async def measure(url: str) -> dict[str, float]:
    """Return the figures of one store, in milliseconds and events a second."""
    store = await asyncio.to_thread(SqlStore, url)
    figures: dict[str, float] = {}
    seconds = sorted(await write(store, await new_run(store, "alone"), 500, 1))
    figures["one writer, one event: p50, ms"] = seconds[len(seconds) // 2] * 1e3
    figures["one writer, one event: p99, ms"] = seconds[len(seconds) * 99 // 100] * 1e3
    runs = [await new_run(store, f"w{index}") for index in range(NUM_WRITERS)]
    begin = time.perf_counter()
    await asyncio.gather(*(write(store, run, 2000, 4) for run in runs))
    figures["four writers, 4 events a commit: events/s"] = (
        NUM_WRITERS * 2000 / (time.perf_counter() - begin)
    )
    begin = time.perf_counter()
    num = len(await store.events("w0", 0, 1 << 30))
    figures["a log of 2,000 events: events/s"] = num / (time.perf_counter() - begin)
    for index in range(NUM_RUNS):
        await new_run(store, f"p{index:04}")
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        await store.list(RunQuery(tags=frozenset("a"), limit=100))
        times.append(time.perf_counter() - begin)
    figures["a page of 100 of 305 runs with a tag, ms"] = statistics.median(times) * 1e3
    await store.close()
    return figures


async def follow(url: str, num_events: int) -> tuple[float, float]:
    """Return the events a second and the lag in seconds at the end; exits if one is missing or twice."""
    leader = await asyncio.to_thread(SqlStore, url, address="leader")
    reader = await asyncio.to_thread(SqlStore, url, may_follow=True)
    hub = Hub(reader)
    seen: list[int] = []

    def note(published: Sequence[StoredEvent]) -> None:
        seen.extend(event.position for event in published)

    hub.observe(note)
    following = Following(reader, hub, queue_limit=1)
    first = await reader.last_position()
    task = asyncio.create_task(following.follow())
    runs = [await new_run(leader, f"w{index}") for index in range(NUM_WRITERS)]
    begin = time.perf_counter()
    await asyncio.gather(*(write(leader, run, num_events // NUM_WRITERS, 10) for run in runs))
    written_s = time.perf_counter() - begin
    last = await leader.last_position()
    while not seen or seen[-1] < last:  # noqa: ASYNC110 - it is the publishing that is timed
        await asyncio.sleep(0.005)
    lag_s = time.perf_counter() - begin - written_s
    task.cancel()
    if seen != list(range(first + 1, last + 1)):
        sys.exit(
            f"the follower saw {len(seen)} positions, {len(set(seen))} different, of {last - first}"
        )
    await reader.close()
    await leader.close()
    return len(seen) / written_s, lag_s


def main() -> None:
    """Measure in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    postgres: Postgres | None = start_postgres(is_durable=True)
    if postgres is None:
        parser.error(f"it {MISSING}")
    try:
        found: dict[str, list[dict[str, float]]] = {"SQLite": [], "PostgreSQL": []}
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                found["SQLite"].append(asyncio.run(measure(f"sqlite:///{folder}/lab.db")))
            found["PostgreSQL"].append(asyncio.run(measure(postgres.new_url())))
        print(f"{'':<46}{'SQLite':>12}{'PostgreSQL':>12}{'ratio':>8}")
        for name in found["SQLite"][0]:
            ours, other = (
                statistics.median(round_[name] for round_ in rounds) for rounds in found.values()
            )
            print(f"{name:<46}{ours:>12,.1f}{other:>12,.1f}{other / ours:>8.2f}")
        per_s, lag_s = asyncio.run(follow(postgres.new_url(), arguments.events))
        print(
            f"a follower saw {arguments.events:,} events of four writers, each position once and in order,"
            f" at {per_s:,.0f}/s, {lag_s * 1e3:.0f} ms behind the last commit"
        )
    finally:
        postgres.remove()


if __name__ == "__main__":
    main()
