"""What is left of runs in the end, beside what their twins left that nobody disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos_runs import EXPERIMENT, NUM_SEEDS, Trial, Watcher, create, patient_client
from live_server import LiveServer

from lab_client import Run
from lab_client.events import Event, Metrics, Truncate
from lab_client.metric_names import SYSTEM_PREFIX

PLUMBING = {"spool", "control"}
"""Files of a run's folder that are about its attempts and what was asked of them, not about the run."""

STDERR = "log.levels"
"""Is there when something was written to stderr, as a resumed trainer may: it says what it left out."""

History = dict[str, dict[int, float]]


@dataclass
class Result:
    """What is left of a run in the end, all of which its twin must have too."""

    history: History
    database: History
    weights: bytes
    checkpoint: dict[str, str]
    files: set[str]


def history_of(events: list[Event]) -> History:
    """Fold a log: what counts of each metric, by step; without what is measured of the machine.

    Those names are reserved: no metric of an experiment's own can begin so.
    """
    history: History = {}
    for event in events:
        match event.body:
            case Truncate(after_step=after):
                for points in history.values():
                    for step in [step for step in points if step > after]:
                        del points[step]
            case Metrics(steps=steps, columns=columns):
                for name, column in columns.items():
                    for row, value in zip(
                        column.rows or range(len(steps)), column.values, strict=True
                    ):
                        points = history.setdefault(name, {})
                        if steps[row] in points:
                            raise SystemExit(f"{name} has step {steps[row]} twice, seq {event.seq}")
                        points[steps[row]] = value
    return {name: points for name, points in history.items() if not name.startswith(SYSTEM_PREFIX)}


def result_of(run: Run, homes: list[Path], events: list[Event]) -> Result:
    """Return what a run left, in its log and in its folder, which the server has that saw its end."""
    folders = [folder for home in homes for folder in home.glob(f"runs/*/{run.id}")]
    folder = max(folders, key=lambda folder: len(list(folder.rglob("*"))))
    last = max(folder.glob("checkpoints/*"), key=lambda path: int(path.name))
    hashes = json.loads((last / "manifest.json").read_text())["files"]
    return Result(
        history_of(events),
        database_of(folder / "sqlite.db"),
        (folder / "numpy" / "weights.npy").read_bytes(),
        {name: hashes[name] for name in ("model.pt", "optimizer.pt")},
        {path.name for path in folder.iterdir()} - PLUMBING,
    )


def database_of(path: Path) -> History:
    """Return all that is in a run's database, by metric and step."""
    database: History = {}
    with contextlib.closing(sqlite3.connect(path)) as db:
        for name, step, value in db.execute("SELECT indicator, step, value FROM scalars"):
            points = database.setdefault(name, {})
            if step in points:
                raise SystemExit(f"{name} has step {step} twice in {path}")
            points[step] = value
    return database


def twins(folder: Path) -> dict[int, Result]:
    """Run each config once, undisturbed, on a server of its own."""
    server = LiveServer(folder, "--slots", "cpu:2", "--experiments", str(EXPERIMENT))
    server.start()
    with patient_client(server.address) as client:
        runs = {seed: create(client, seed).start() for seed in range(NUM_SEEDS)}
        results = {seed: result_of(run, [folder], list(run.events())) for seed, run in runs.items()}
    server.stop()
    return results


def stored_logs(url: str, run_ids: list[str]) -> dict[str, list[Event]]:
    """Read the runs' logs from the store itself."""
    from lab_client.protocol import event_convert
    from lab_rpc.v1.event_pb2 import RunEvent
    from lab_server.store import SqlStore

    async def read() -> dict[str, list[Event]]:
        store = SqlStore(url)
        logs = {run_id: await store.events(run_id, 0, 1 << 40) for run_id in run_ids}
        await store.close()
        return {
            run_id: [event_convert.event(RunEvent.FromString(event.payload)) for event in log]
            for run_id, log in logs.items()
        }

    return asyncio.run(read())


class Report:
    """Compares, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def check(self, is_fine: bool, problem: str) -> None:
        if not is_fine:
            self.problems.append(problem)

    def trial(
        self, trial: Trial, homes: list[Path], twin: Result, stored: list[Event], fresh: list[Event]
    ) -> None:
        """Compare all that is known of a run."""
        run_id = trial.run.id
        seqs = [event.seq for event in stored]
        self.check(seqs == list(range(1, len(seqs) + 1)), f"{run_id}: the store's log has gaps")
        for watcher in [*trial.watchers, Watcher("afterwards", fresh)]:
            seen = Counter(event.seq for event in watcher.events)
            self.counts["events checked"] += len(watcher.events)
            self.counts["watchers"] += 1
            self.counts["lost"] += len(set(seqs) - set(seen))
            self.counts["doubled"] += sum(n - 1 for n in seen.values())
            name = f"{run_id}, watcher {watcher.how}"
            self.check(not watcher.error, f"{name}: {watcher.error}")
            self.check(watcher.events == stored, f"{name}: its log is not the store's")
        last = stored[-1].body
        state = getattr(last, "state", None)
        self.check(state == "COMPLETED", f"{run_id}: ended with {last}")
        num_attempts = max(event.attempt for event in stored)
        self.counts["attempts"] += num_attempts
        if state != "COMPLETED":
            return
        result = result_of(trial.run, homes, stored)
        self.counts["points checked"] += sum(map(len, result.history.values()))
        self.check(result.history == twin.history, f"{run_id}: its metrics are not its twin's")
        self.check(result.database == twin.database, f"{run_id}: its sqlite.db is not its twin's")
        self.check(result.weights == twin.weights, f"{run_id}: its weights are not its twin's")
        is_same = result.checkpoint == twin.checkpoint
        self.check(is_same, f"{run_id}: its last checkpoint is not its twin's")
        files = result.files - ({STDERR} if num_attempts > 1 else set())
        self.check(files == twin.files, f"{run_id}: its files are {sorted(result.files)}")


def left_over(home: Path) -> list[str]:
    """Return the command lines of processes that still have to do with this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"LAB_DATA_PATH={home}/".encode() in path.read_bytes() and path.parent.name != str(
                os.getpid()
            ):
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
