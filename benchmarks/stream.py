"""How fast metrics come through the service.

    python benchmarks/stream.py [--points N] [--rounds N]

A server has started, its forkserver has imported torch, and it has read a short run, so that all is there that it imports
on first use. Then a trainer dies whose spool is full, and the clock runs to the last point in the client, decoded,
through the SDK; or to the end of the run in the store.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from full_spool import FullSpool
from live_server import LiveServer
from processes import cpu_s
from table import Row, markdown

from lab_client import Client, Run


@dataclass(frozen=True)
class Case:
    """Events of one kind, and who takes them.

    Attributes:
        taker: takes all of a run, which has `num_points`.
        wanted: points a second; 0 for no bound.
    """

    what: str
    num_metrics: int
    batch: int
    num_points: int
    taker: Callable[[Run], int]
    wanted: float = 0.0


@dataclass(frozen=True)
class Rate:
    """What a case came to: metric points a second, and processor time of a million of them."""

    points_per_s: float
    server_s: float
    client_s: float
    encoded_per_s: float


def in_batches(run: Run) -> int:
    """Return the number of points of a run, read batch by batch."""
    return sum(
        len(column.values)
        for batch in run.batches()
        if batch.metrics is not None
        for column in batch.metrics.columns.values()
    )


def by_point(run: Run) -> int:
    """Return the number of points of a run, read point by point."""
    return sum(len(point.values) for point in run.metrics())


def stored(run: Run) -> int:
    """Return when the run's end is in the store: asked for, as a watcher would get all of it."""
    while not run.refresh().state.is_terminal:
        time.sleep(0.05)
    return -1


def cases(num_points: int) -> list[Case]:
    """Return what has a bound."""
    return [
        Case("spool to one client, in batches", 20, 100, num_points, in_batches, 5e6),
        Case("spool to one client, point by point", 2, 10_000, num_points, by_point, 1.5e6),
        Case("spool to store", 2, 2, num_points // 2, stored, 250e3),
    ]


@contextlib.contextmanager
def full_spools(case: Case) -> Iterator[tuple[FullSpool, FullSpool, LiveServer]]:
    """Give a short run and that of the case, and the server that waits for both."""
    with tempfile.TemporaryDirectory(prefix="lab-stream-") as name, contextlib.ExitStack() as stack:
        spools = []
        for run_id, slot, num_points in (
            ("short", "cpu:0", case.num_points // 20),
            ("run", "cpu:1", case.num_points),
        ):
            spool = FullSpool(Path(name), run_id, slot, num_points, case.num_metrics, case.batch)
            spools.append(stack.enter_context(contextlib.closing(spool)))
        server = stack.enter_context(LiveServer(Path(name), "--slots", "cpu:2"))
        yield spools[0], spools[1], server


def measure(case: Case) -> Rate:
    """Measure a case once."""
    with full_spools(case) as (short, spool, server), Client(server.address) as client:
        assert server.process is not None
        client.experiments()  # answered when torch has been imported
        short.reveal()
        case.taker(client.run("short"))
        client.run("short").history(max_points=1)  # imports what histories need
        run = client.run("run")
        server_s, client_s = cpu_s(server.process.pid), time.process_time()
        start = time.perf_counter()
        spool.reveal()
        num_points = case.taker(run)
        seconds = time.perf_counter() - start
        server_s = cpu_s(server.process.pid) - server_s
        client_s = time.process_time() - client_s
    if num_points not in (case.num_points, -1):
        raise SystemExit(f"{num_points} of {case.num_points} points came")
    millions = case.num_points / 1e6
    return Rate(
        case.num_points / seconds,
        server_s / millions,
        client_s / millions,
        case.num_points / spool.encode_s,
    )


def row_of(case: Case, rates: list[Rate]) -> Row:
    """Return the medians of a case as a row."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(rate, name) for rate in rates))

    rate = median("points_per_s")
    details = (
        f"{case.num_metrics} metrics, {case.batch} steps an event; processor time of a million:"
        f" server {median('server_s'):.2f}, client {median('client_s'):.2f} s;"
        f" encoded at {median('encoded_per_s') / 1e6:.1f} M points/s"
    )
    wanted = f"≥ {_text(case.wanted)}" if case.wanted else ""
    return Row(
        case.what, _text(rate), details, None, wanted, rate >= case.wanted if wanted else None
    )


def _text(points_per_s: float) -> str:
    if points_per_s < 1e6:
        return f"{points_per_s:,.0f} points/s"
    return f"{points_per_s / 1e6:.3g} M points/s"


def rows(num_points: int = 4_000_000, rounds: int = 3) -> list[Row]:
    """Measure all cases in turns."""
    rates: dict[Case, list[Rate]] = {case: [] for case in cases(num_points)}
    for _ in range(rounds):
        for case, found in rates.items():
            found.append(measure(case))
    return [row_of(case, found) for case, found in rates.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.points, arguments.rounds)))
