"""A service that forwards the metrics of all runs into its own database, each value exactly once.

python examples/forward_metrics.py metrics.db [--experiment NAME] [--tag TAG] [--name GLOB]

It may be killed and restarted at any time. The cursor is stored in the same transaction as the values it
covers, so that none is lost. Updates repeated after a restart have the same run and seq, so that none is
stored twice. Values that a resumed attempt truncates are deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sqlite3
from pathlib import Path

from lab_client import AsyncClient
from lab_client.events import Metrics, MetricsUpdate, StateChange, Truncate

SCHEMA = """
CREATE TABLE IF NOT EXISTS points (
    run TEXT, name TEXT, step INTEGER, value REAL, PRIMARY KEY (run, name, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, experiment TEXT, seq INTEGER, state TEXT);
CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT);
"""


class Sink:
    """The database of points, runs and the cursor."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(SCHEMA)

    def cursor(self) -> str:
        """Return the cursor to continue from; empty at the first start."""
        row = self._database.execute("SELECT text FROM cursor").fetchone()
        return str(row[0]) if row else ""

    def store(self, update: MetricsUpdate) -> None:
        """Store an update and its cursor, both or none."""
        with self._database as transaction:
            seq = transaction.execute("SELECT seq FROM runs WHERE run = ?", [update.run_id])
            if update.event.seq > (seq.fetchone() or (0,))[0]:
                self._apply(transaction, update)
            transaction.execute("REPLACE INTO cursor VALUES (1, ?)", [update.cursor])

    @staticmethod
    def _apply(transaction: sqlite3.Connection, update: MetricsUpdate) -> None:
        run, event = update.run_id, update.event
        transaction.execute(
            "INSERT INTO runs VALUES (?, ?, ?, '') ON CONFLICT (run) DO UPDATE SET seq = excluded.seq",
            [run, update.experiment, event.seq],
        )
        match event.body:
            case Metrics() as metrics:
                transaction.executemany(
                    "REPLACE INTO points VALUES (?, ?, ?, ?)",
                    (
                        (run, name, point.step, value)
                        for point in metrics.points()
                        for name, value in point.values.items()
                    ),
                )
            case Truncate(after_step=step):
                transaction.execute("DELETE FROM points WHERE run = ? AND step > ?", [run, step])
            case StateChange(state=state):
                transaction.execute("UPDATE runs SET state = ? WHERE run = ?", [state, run])


async def forward(arguments: argparse.Namespace) -> None:
    """Forward until cancelled."""
    sink = Sink(arguments.database)
    # A service waits for its server without a time limit.
    async with AsyncClient(arguments.server, reconnect_timeout_s=float("inf")) as client:
        updates = client.watch_metrics(
            experiment=arguments.experiment,
            tags=arguments.tag,
            names=arguments.name,
            cursor=sink.cursor(),
            from_start=True,
        )
        print("forwarding", flush=True)
        async for update in updates:
            sink.store(update)
            if isinstance(update.event.body, StateChange):
                print(update.run_id, update.event.body.state, flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("database", type=Path)
    parser.add_argument("--server", help="HOST:PORT; default: LAB_SERVER")
    parser.add_argument("--experiment", default="")
    parser.add_argument("--tag", action="append", default=[])
    parser.add_argument("--name", action="append", default=[], help="globs of metrics")
    forwarding = asyncio.create_task(forward(parser.parse_args()))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, forwarding.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await forwarding


if __name__ == "__main__":
    asyncio.run(main())
