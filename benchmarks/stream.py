"""How fast metrics come through the service.

    python benchmarks/stream.py [--points N]

Gives a server the spool of a trainer that died, complete, and measures from the server's start of reading it
to the last point in the client: decoded, through the SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from live_server import LiveServer
from stores import Column
from table import Row

from lab_client import Client


async def make_home(home: Path, num_points: int, num_metrics: int, batch: int) -> float:
    """Make a home with a run whose trainer is gone, its spool full; return the seconds of encoding."""
    from lab_server.files.run_folder import RunFolder
    from lab_server.files.spool import SpoolWriter
    from lab_server.messages import events
    from lab_server.model.run import Run, RunRequest, RunState
    from lab_server.store import SqlStore

    folder = RunFolder(home / "runs" / "mnist" / "r1")
    folder.make()
    folder.pid_file(1).write_text('{"pid": 1, "start_ticks": 0}')
    num_steps = num_points // num_metrics
    encode_s = 0.0
    with SpoolWriter(folder.spool(1)) as spool:
        spool.append([events.encode_state(1, 1, RunState.RUNNING).payload])
        for first in range(0, num_steps, batch):
            steps = list(range(first, min(first + batch, num_steps)))
            values = [step * 0.001 for step in steps]
            columns = [Column(f"metric_{i}", steps, values) for i in range(num_metrics)]
            start = time.perf_counter()
            measured = events.encode_metrics(1, time.time_ns(), columns)
            spool.append(event.payload for event in measured)
            encode_s += time.perf_counter() - start
        spool.append([events.encode_state(1, 1, RunState.COMPLETED).payload])
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    run = Run("r1", RunRequest("mnist"), state=RunState.STARTING, attempt=1, slot="cpu:0")
    await store.create(run, None)
    await store.close()
    return encode_s


@dataclasses.dataclass
class Rate:
    """Metric points a second: from the spool to one client, and what the trainer's side can encode."""

    to_client: float
    encoded: float


def points(num_points: int, num_metrics: int, batch: int, by_point: bool) -> Rate:
    """Return the points a second that one client gets."""
    folder = Path(tempfile.mkdtemp(prefix="lab-stream-"))
    try:
        encode_s = asyncio.run(make_home(folder, num_points, num_metrics, batch))
        server = LiveServer(folder, "--slots", "cpu:1")
        server.launch()
        received = 0
        first = 0.0
        with Client(server.address) as client:
            client.wait_ready()
            run = client.run("r1")
            start = time.perf_counter()
            if by_point:
                for point in run.metrics():
                    first = first or time.perf_counter()
                    received += len(point.values)
            else:
                for update in run.batches():
                    first = first or time.perf_counter()
                    if update.metrics is not None:
                        received += sum(len(c.values) for c in update.metrics.columns.values())
            seconds = time.perf_counter() - start
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert received == num_points, f"{received} of {num_points} points came"
    return Rate(received / seconds, num_points / encode_s)


def rows(num_points: int = 4_000_000) -> list[Row]:
    """Measure the rates that have a bound, three times each."""
    cases = {"in batches": (20, 100, False, 5.0), "point by point": (2, 10_000, True, 1.5)}
    rates: dict[str, list[float]] = {how: [] for how in cases}
    for _ in range(3):
        for how, (num_metrics, batch, by_point, _) in cases.items():
            rates[how].append(points(num_points, num_metrics, batch, by_point).to_client / 1e6)
    found = []
    for how, (num_metrics, batch, _, bound) in cases.items():
        rate = statistics.median(rates[how])
        found.append(
            Row(
                f"spool to one client, {how}",
                f"{rate:.2f} M points/s",
                f"{num_metrics} metrics, {batch} steps an event",
                None,
                f"≥ {bound:g} M points/s",
                rate >= bound,
            )
        )
    stored = statistics.median(ingest(num_points // 2) for _ in range(3))
    found.append(
        Row(
            "spool to store",
            f"{stored:,.0f} points/s",
            "2 metrics, 2 steps an event",
            None,
            "≥ 250,000 points/s",
            stored >= 250_000,
        )
    )
    return found


def ingest(num_points: int) -> float:
    """Return the points a second of 2-step events, from the spool to the store; the server's start counts."""
    with tempfile.TemporaryDirectory(prefix="lab-stream-") as name:
        home = Path(name)
        asyncio.run(make_home(home, num_points, 2, 2))
        with LiveServer(home, "--slots", "cpu:1") as server, Client(server.address) as client:
            # asked for, not watched: a watcher would get all of it, and is measured above
            while not client.run("r1").refresh().state.is_terminal:
                time.sleep(0.05)
            return num_points / (time.perf_counter() - server.launched_at)


def main() -> None:
    """Print the rates of events of all kinds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--points", type=int, default=8_000_000)
    arguments = parser.parse_args()
    for num_metrics, batch, by_point in (
        (2, 10_000, False),
        (20, 100, False),
        (2, 100, False),
        (2, 10_000, True),
    ):
        rate = points(arguments.points, num_metrics, batch, by_point)
        how = "point by point" if by_point else "in batches"
        print(
            f"{num_metrics} metrics, {batch} steps an event, {how}: {rate.to_client / 1e6:6.2f} M points/s"
            f" to the client; the trainer's side: {rate.encoded / 1e6:6.2f} M points/s"
        )
    print(f"spool to store, 2 steps an event: {ingest(arguments.points // 4):,.0f} points/s")


if __name__ == "__main__":
    main()
