"""What one event more costs the server, and what a live run costs it without any.

    python benchmarks/events.py [--rounds N] [--seconds N]

A run that computes nothing makes so many events a second, and has one subscriber. The server's processor time over
the events is a line: its slope is the cost of an event, from the spool to the subscriber, its start that of a live
run whose trainer is silent. The medians of some rounds over all rates make the line. Beside it stands the least that
an event may cost: a commit of as many bytes by SQLite alone, and one by a bare event loop with a thread that commits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from live_server import LiveServer
from processes import cpu_s
from table import Row, at_most, markdown

from lab_client import Client, Run

EXPERIMENT = str(Path(__file__).with_name("paced_experiment.py"))
RATES = (0.0, 5.0, 20.0, 60.0)
_SETTLE_S = 1.5
_PACE = 20.0  # bare commits a second
_NUM_PACED = 40
_EVENT_BYTES = 500
_ROW_BYTES = 1200  # of the run's row, which is written with each event


class _Counted:
    """A run's subscriber that counts events."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thread = threading.Thread(target=self._follow)
        self.num = 0

    def _follow(self) -> None:
        for _ in self._run.events():
            self.num += 1

    def __enter__(self) -> _Counted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run.stop()
        self._thread.join()


def window(server: LiveServer, client: Client, rate: float, seconds: float) -> tuple[float, float]:
    """Return the events a second that came, and the share of a core that the server took."""
    assert server.process is not None
    pid = server.process.pid
    run = client.create("paced_experiment", {"events_per_s": rate}).start()
    with _Counted(run) as counted:
        next(iter(run.metrics()))
        time.sleep(_SETTLE_S)
        began, num, cpu = time.monotonic(), counted.num, cpu_s(pid)
        time.sleep(seconds)
        took, num, cpu = time.monotonic() - began, counted.num - num, cpu_s(pid) - cpu
    return num / took, cpu / took


class BareCommits:
    """The least that an event may cost: SQLite alone commits as many bytes as of an event, synced to the disk.

    A program that does it now and then pays more for each than one that does nothing else: its processor has
    slept, and others have had its caches.
    """

    def __init__(self, folder: Path) -> None:
        path = str(folder / "alone.db")
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE runs (id TEXT PRIMARY KEY, details TEXT)",
            "CREATE TABLE events (position INTEGER PRIMARY KEY, payload BLOB)",
            "INSERT INTO runs VALUES ('r', '')",
        ):
            self._db.execute(statement)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def alone_ms(self, num: int, pause_s: float = 0.0) -> float:
        """Return the processor time of a commit, with a pause behind each."""
        began = time.process_time()
        for _ in range(num):
            self._commit()
            time.sleep(pause_s)
        return 1e3 * (time.process_time() - began) / num

    def handed_over_ms(self, num: int, pause_s: float) -> float:
        """Return that of one which an event loop awaits while another thread does it, as it blocks."""

        async def commit() -> float:
            loop = asyncio.get_running_loop()
            began = time.process_time()
            for _ in range(num):
                await loop.run_in_executor(writer, self._commit)
                await asyncio.sleep(pause_s)
            return 1e3 * (time.process_time() - began) / num

        with ThreadPoolExecutor(1) as writer:
            return asyncio.run(commit())

    def _commit(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("UPDATE runs SET details = ? WHERE id = 'r'", ("x" * _ROW_BYTES,))
        self._db.execute("INSERT INTO events (payload) VALUES (?)", (b"x" * _EVENT_BYTES,))
        self._db.execute("COMMIT")


@contextlib.contextmanager
def _serving() -> Iterator[tuple[LiveServer, Client]]:
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home), "--slots", "cpu:1", "--experiments", EXPERIMENT) as server,
        Client(server.address) as client,
    ):
        client.wait_ready()
        yield server, client


def rows(rounds: int = 2, seconds: float = 4.0) -> list[Row]:
    """Measure it."""
    found: dict[float, list[tuple[float, float]]] = {rate: [] for rate in RATES}
    flat_out, paced, handed_over = list[float](), list[float](), list[float]()
    with (
        _serving() as (server, client),
        tempfile.TemporaryDirectory(prefix="lab-bench-") as folder,
        contextlib.closing(BareCommits(Path(folder))) as bare,
    ):
        window(server, client, RATES[-1], 0.5)  # what is imported on first use is not of interest
        for _ in range(rounds):
            for rate in RATES:
                found[rate].append(window(server, client, rate, seconds))
            flat_out.append(bare.alone_ms(200))
            paced.append(bare.alone_ms(_NUM_PACED, 1 / _PACE))
            handed_over.append(bare.handed_over_ms(_NUM_PACED, 1 / _PACE))
    events_per_s, cores = (
        [statistics.median(each[i] for each in found[rate]) for rate in RATES] for i in (0, 1)
    )
    line = statistics.linear_regression(events_per_s, cores)
    silent, fastest = found[RATES[0]], max(events_per_s)
    return [
        at_most(
            "server's processor time for an event more",
            1e3 * line.slope,
            0.5,
            "ms",
            f"up to {fastest:.0f} events/s",
        ),
        Row(
            "a bare event loop's commit by a thread",
            f"{statistics.median(handed_over):.2f} ms",
            f"{_PACE:g} a second; SQLite's commit alone, {statistics.median(paced):.2f} ms,"
            f" flat out {statistics.median(flat_out):.2f} ms",
        ),
        Row(
            "server's processor time with a live run that is silent",
            f"{100 * statistics.median(cpu for _, cpu in silent):.2f} % of a core",
            f"{events_per_s[0]:.1f} events/s of progress",
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.rounds, arguments.seconds)))
