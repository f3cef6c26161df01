"""A real supervisor over a real store and real trainers, without the network around it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab_server.executors.local import LocalExecutor
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState, TrialOf
from lab_server.model.slot import Slot
from lab_server.processes import proc
from lab_server.store import SqlStore, StoredEvent
from lab_server.supervisor import Supervisor, SupervisorOptions
from lab_server.watch.hub import Hub

PATIENCE_S = 60.0
TOYS = Path(__file__).with_name("toys.py")

Points = dict[tuple[str, int], float]


class Slotted:
    """An executor with slots of its own; the rest is that of the one behind it."""

    def __init__(self, executor: LocalExecutor, slots: Sequence[Slot]) -> None:
        self._executor = executor
        self.slots = slots

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)


class Rig:
    """A supervisor that can be replaced by the next one, as when a server is killed and started again.

    Args:
        home: the folder of the store and of the runs.
        executor: shared by all tests of a session, with this rig's slots.
        store_url: of PostgreSQL; empty for SQLite in the home.
    """

    def __init__(self, home: Path, executor: Any, store_url: str = "", **options: Any) -> None:
        self.home = home
        self.store_url = store_url
        self.executor = executor
        self.options = SupervisorOptions(**{"grace_s": 5.0, "term_grace_s": 0.3, **options})

    async def open(self) -> None:
        """Start a server's worth of parts."""
        reserve = Home(self.home).reserve
        url = self.store_url or f"sqlite:///{self.home / 'lab.db'}"
        self.store = await asyncio.to_thread(SqlStore, url, reserve.release, "rig")
        self.hub = Hub(self.store, min_pause_s=0)
        self.supervisor = Supervisor(self.store, self.hub, self.executor, self.home, self.options)
        await self.supervisor.start_up()

    async def close(self) -> None:
        """Let go of everything, trainers left alone."""
        await self.supervisor.shut_down(stop_trainers=False)
        self.hub.close()
        await self.store.close()

    async def end(self) -> None:
        """Close, and end every process that a run still has."""
        await self.close()
        live = [run for run in self.supervisor.live() if run.state.has_process]
        # not `describe`, which may know the answer: this one comes after that of every launch that was asked for
        await self.executor._experiments.ask("describe")
        for run in live:
            process = await self.executor.inspect(self.folder(run).path, run.attempt)
            if process is not None:
                await self.executor.kill(process, grace_s=0)

    async def restart(self, **options: Any) -> None:
        """Let another supervisor take over from what is on the disk."""
        await self.close()
        if options:
            self.options = SupervisorOptions(**options)
        await self.open()

    async def create(
        self,
        experiment: str = "toy",
        *,
        options: RunOptions = RunOptions(),  # noqa: B008 - frozen
        parent: RunParent | None = None,
        trial: TrialOf | None = None,
        key: str | None = None,
        **overrides: Any,
    ) -> Run:
        """Create a run."""
        request = RunRequest(experiment, overrides, options=options, parent=parent, trial=trial)
        return await self.supervisor.create(
            request, owner="", config_hash="", key=key, fingerprint=repr(request)
        )

    async def start(self, experiment: str = "toy", **arguments: Any) -> Run:
        """Create and start a run."""
        run = await self.create(experiment, **arguments)
        return await self.supervisor.start(run.id)

    async def ended(self, run: Run) -> Run:
        """Return the run when it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.hub.watch(run.id, 0):
                pass
        return await self.supervisor.get(run.id)

    async def reaches(self, run: Run, *states: RunState) -> Run:
        """Return the run when it is in one of the states."""
        return await self.until(run, lambda now: now.state in states)

    async def reaches_seq(self, run: Run, seq: int) -> Run:
        """Return the run when its log has an event, or has ended before."""
        return await self.until(run, lambda now: now.last_seq >= seq or now.state.is_terminal)

    async def until(self, run: Run, condition: Callable[[Run], bool]) -> Run:
        """Return the run when it fulfils a condition."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(now := await self.supervisor.get(run.id)):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return now

    def folder(self, run: Run) -> RunFolder:
        """Return the run's folder."""
        return RunFolder(self.home / "runs" / run.experiment / run.id)

    async def log(self, run: Run) -> list[StoredEvent]:
        """Return the run's whole log; its seqs are checked to be without a gap."""
        log = list(await self.store.events(run.id, 0, 1 << 30))
        assert [event.seq for event in log] == list(range(1, len(log) + 1))
        assert len(log) == (await self.supervisor.get(run.id)).last_seq
        return log

    async def states(self, run: Run) -> list[str]:
        """Return the names of the states that the run went through."""
        states = [event.payload for event in await self.log(run) if event.kind == "state"]
        return [events.decode_state(payload).state.value for payload in states]

    async def kinds(self, run: Run, kind: str) -> list[Any]:
        """Return the run's events of a kind, decoded."""
        log = await self.log(run)
        return [getattr(events.decode(e.payload), kind) for e in log if e.kind == kind]

    async def lines(self, run: Run) -> list[str]:
        """Return what the run printed, as its log tells."""
        return [line for log in await self.kinds(run, "log") for line in log.lines]

    async def points(self, run: Run) -> Points:
        """Return the run's history; no metric may be there twice."""
        points: Points = {}
        for event in await self.log(run):
            decoded = events.decode(event.payload)
            if event.kind == "truncate":
                after = decoded.truncate.after_step
                points = {at: v for at, v in points.items() if at[1] <= after}
            for column in decoded.metrics.columns:
                rows = column.rows or range(len(column.values))
                for row, value in zip(rows, column.values, strict=True):
                    at = (column.name, decoded.metrics.steps[row])
                    assert at not in points, f"{at} is there twice"
                    points[at] = value
        return points

    def recorded(self, run: Run) -> Points:
        """Return what is in the run's sqlite.db; no metric may be there twice."""
        with sqlite3.connect(self.folder(run).path / "sqlite.db") as db:
            rows = db.execute("SELECT indicator, step, value FROM scalars").fetchall()
        points = {(name, step): value for name, step, value in rows}
        assert len(points) == len(rows)
        return points

    def weights(self, run: Run, step: int) -> dict[str, str]:
        """Return the hashes of the model and the optimizer in the run's checkpoint of a step."""
        manifest = self.folder(run).checkpoints / str(step) / "manifest.json"
        files: dict[str, str] = json.loads(manifest.read_text())["files"]
        return {name: files[name] for name in ("model.pt", "optimizer.pt")}


class Gate:
    """Holds a toy at a step: its config `gate` is this one's `path`, and `wait_at` the step."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "gate"
        self.path = str(self._file)

    async def reached(self) -> None:
        """Return when the toy is there."""
        await exists(self._file.with_name("gate.reached"))

    def open(self) -> None:
        """Let it go on, and every later attempt pass."""
        self._file.touch()


async def exists(path: Path) -> None:
    """Return when there is such a file."""
    await becomes_true(path.exists)


async def becomes_true(condition: Callable[[], bool]) -> None:
    """Return when a condition holds that nobody announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    found = proc.stat(pid)
    return found is None or not found.is_alive
