"""Whether a server that follows streams what another one writes: each event once, in the order of the log.

    python benchmarks/follower.py [--writers 4] [--events 1000000]

Two servers share a PostgreSQL. Simulated agents ship the events of a run each to the one that leads, all as fast as
it takes them, while a client reads `WatchMetrics` from the other one. Then the same stream is read once more, from the
leader: both must be the same events in the same order, and each run must have each seq and each step once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from live_server import LiveServer
from local_postgres import MISSING, start_postgres
from simulated_agents import EXPERIMENT, ship_all
from tqdm import tqdm

from lab_client import Client
from lab_client.events import Metrics, MetricsUpdate, StateChange

Place = tuple[str, int]


class Reader:
    """A stream of the metrics of all runs, read from its start.

    Attributes:
        places: the run and the seq of each event, as they came.
        steps: the steps of each run, as they came.
    """

    def __init__(self, updates: Iterator[MetricsUpdate], num_runs: int, total: int) -> None:
        self.places: list[Place] = []
        self.steps: dict[str, list[int]] = {}
        self.last_at = 0.0  # of time.perf_counter()
        self._updates = updates
        self._num_runs = num_runs
        self._bar = tqdm(total=total, unit=" events", mininterval=1, file=sys.stderr)

    def read(self) -> None:
        """Read until all runs have ended."""
        num_ended = 0
        with self._bar:
            for update in self._updates:
                self.places.append((update.run_id, update.event.seq))
                body = update.event.body
                if isinstance(body, Metrics):
                    self.steps.setdefault(update.run_id, []).extend(body.steps)
                self._bar.update()
                if isinstance(body, StateChange) and body.state.is_terminal:
                    num_ended += 1
                    if num_ended == self._num_runs:
                        break
        self.last_at = time.perf_counter()


@contextlib.contextmanager
def two_servers() -> Iterator[tuple[LiveServer, LiveServer]]:
    """Start the server that leads, and one that follows it."""
    with contextlib.ExitStack() as stack:
        postgres = start_postgres(is_durable=True)
        if postgres is None:
            raise SystemExit(MISSING)
        stack.callback(postgres.remove)
        flags = ["--slots", "none", "--experiments", str(EXPERIMENT), "--store", postgres.new_url()]
        folder = Path(tempfile.mkdtemp(prefix="lab-follower-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        leader = stack.enter_context(LiveServer(folder / "a", *flags))
        yield leader, stack.enter_context(LiveServer(folder / "b", *flags))


def differences(followed: Reader, led: Reader, num_events: int) -> list[str]:
    """Return what is wrong with what the follower sent, in words."""
    found = []
    if followed.places != led.places:
        missing, more = set(led.places) - set(followed.places), len(followed.places)
        found.append(
            f"{more:,} events came from the follower, {len(set(followed.places)):,} different;"
            f" {len(missing):,} of the leader's {len(led.places):,} are missing"
        )
        if set(followed.places) == set(led.places) and more == len(led.places):
            found.append("all came once, but in another order")
    last_seqs: dict[str, int] = {}
    for run_id, seq in followed.places:
        if seq <= last_seqs.get(run_id, 0):
            found.append(f"run {run_id} went back from seq {last_seqs[run_id]} to {seq}")
        last_seqs[run_id] = seq
    for run_id, steps in followed.steps.items():
        if steps != list(range(1, 2 * num_events + 1)):
            found.append(f"run {run_id} has {len(steps):,} steps, {len(set(steps)):,} different")
    return found


def main() -> None:
    """Write, follow and compare; exits with 1 where the follower's stream differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--events", type=int, default=1_000_000, help="of all writers together")
    arguments = parser.parse_args()
    each = arguments.events // arguments.writers
    with (
        two_servers() as (leader, follower),
        Client(leader.address, timeout_s=3600) as at_leader,
        Client(follower.address, timeout_s=3600) as at_follower,
    ):
        at_leader.wait_ready()
        followed = Reader(
            at_follower.watch_metrics(from_start=True), arguments.writers, arguments.events
        )
        reading = threading.Thread(target=followed.read, daemon=True)
        reading.start()
        _, seconds = asyncio.run(ship_all(leader.address, at_leader, arguments.writers, each))
        written_at = time.perf_counter()
        reading.join()
        led = Reader(at_leader.watch_metrics(from_start=True), arguments.writers, arguments.events)
        led.read()
    found = differences(followed, led, each)
    print(
        f"{len(followed.places):,} events of {arguments.writers} writers through a follower's WatchMetrics,"
        f" {arguments.events / seconds:,.0f} events/s;"
        f" the last came {followed.last_at - written_at:+.2f} s after the last run was seen to have ended"
    )
    print("\n".join(found) or "each seq and each step once, in the order of the leader's log")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
