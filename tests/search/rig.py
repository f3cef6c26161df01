"""Searches over a real store, whose runs are trained by a formula: a search takes milliseconds."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab_core.configs import PlainValue, Schema, SchemaItem
from lab_core.errors import Violation
from lab_server.executors.catalogue import Catalogue
from lab_server.messages import events, search_log
from lab_server.model.domain import Choice, FloatRange
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.model.search import (
    Budget,
    Direction,
    Objective,
    Sampler,
    SearchRecord,
    SearchSpec,
)
from lab_server.model.search_log import Entry
from lab_server.model.upload import Upload
from lab_server.search.fold import Search
from lab_server.search.searches import Searches
from lab_server.store import IdempotencyRecord, SqlStore, StoredEntry
from lab_server.watch.hub import Hub
from tests.server.fakes import FakeExecutor, FakeSupervisor

PATIENCE_S = 60.0
GRID = {"a": Choice((1, 2, 3)), "b": Choice((0.5, 1.5))}
PLANE = {"x": FloatRange(-2.0, 2.0), "rate": FloatRange(1e-4, 1.0, is_log=True)}

SCHEMA = Schema(
    name="Toy",
    items=(
        SchemaItem("a", "int", 1, True, constraints={"ge": 0}),
        SchemaItem("b", "float", 1.0, True),
        SchemaItem("x", "float", 0.0, True),
        SchemaItem("rate", "float", 0.1, True, constraints={"gt": 0}),
        SchemaItem("steps", "int", 9, True),
        # what goes wrong: "", "raise", "nan", "missing", "late" (the metric comes at the last step only)
        SchemaItem("wrong", "str", "", True),
    ),
    run_targets=("run",),
    default_run_order=("run",),
)


def loss(params: Mapping[str, PlainValue], step: int) -> float:
    """Return the toy's loss at a step: trials cross each other as they train."""
    numbers: dict[str, Any] = {"a": 1, "b": 1.0, "x": 0.0, "rate": 0.1, **params}
    end = (numbers["a"] - 2) ** 2 + numbers["b"] / 10 + (numbers["x"] - 0.7) ** 2
    return float(end + numbers["rate"] * 3 / step)


def spec(**changes: Any) -> SearchSpec:
    """Return a small search of the toy."""
    budget = {"max_trials": 6, "parallel": 2}
    budget |= {
        k: changes.pop(k)
        for k in ("max_trials", "max_steps", "max_seconds", "parallel")
        if k in changes
    }
    defaults: dict[str, Any] = {
        "experiment": "toy",
        "space": GRID,
        "objective": Objective("loss", Direction.MINIMIZE),
        "sampler": Sampler.GRID,
        "seed": 1,
        "name": "toy",
    }
    return SearchSpec(**{**defaults, "budget": Budget(**budget), **changes})


@dataclasses.dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    steps: list[int]
    values: list[float]


class Killed(BaseException):
    """The server is gone: nothing that comes later happens."""


class ToyExecutor(FakeExecutor):
    """Knows the toy, and refuses what it is told to."""

    def __init__(self, refuses: Callable[[Mapping[str, PlainValue]], bool]) -> None:
        super().__init__()
        self.refuses = refuses
        self.code_digest = "as it was"

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        return (ExperimentEntry("toy", SCHEMA, code_digest=self.code_digest),)

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue], upload: Upload | None = None
    ) -> tuple[Violation, ...]:
        return (Violation("", "the toy refuses"),) if self.refuses(overrides) else ()


class ToyRuns(FakeSupervisor):
    """Trains what is started, as far as it is asked to, in an order that a seed shuffles."""

    def __init__(self, store: SqlStore, hub: Hub, seed: int) -> None:
        super().__init__(store, hub, FakeExecutor())
        self._store = store
        self._random = random.Random(seed)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        # how a run is to end at its next step, if it gets there
        self.endings: dict[str, tuple[RunState, str]] = {}
        # runs whose trainer dies at a step, and is started again
        self.deaths: dict[str, int] = {}
        self.num_live_at_most = 0
        self.is_dead = False

    async def create(self, request: RunRequest, **arguments: Any) -> Run:
        self.die_if_dead()
        # ids go on after those of the servers before
        page = await self._store.counts()
        self._num_created = max(self._num_created, sum(page.values()))
        return await super().create(request, **arguments)

    async def start(
        self,
        run_id: str,
        *,
        resume: bool = False,
        until_step: int = 0,
        key: str | None = None,
        code_digest: str = "",
    ) -> Run:
        self.die_if_dead()
        run = await super().start(
            run_id, resume=resume, until_step=until_step, key=key, code_digest=code_digest
        )
        self.train(run)
        return run

    def die_if_dead(self) -> None:
        if self.is_dead:
            raise Killed

    def train(self, run: Run) -> None:
        """Train a run in a task of its own."""
        self.num_live_at_most = max(self.num_live_at_most, len(self.live()))
        self.tasks[run.id] = asyncio.create_task(self._train(run))

    async def _train(self, run: Run) -> None:
        overrides = run.request.overrides
        run = await self.move(run, RunState.RUNNING, slot="cpu:0", attempt=run.attempt + 1)
        at = run.checkpoint_step or 0
        run = await self.say(run, events.encode_truncate(run.attempt, 1, at, at or None))
        total = int(str(overrides.get("steps", 9)))
        end = min(total, run.until_step or total)
        for step in range(at + 1, end + 1):
            for _ in range(self._random.randrange(4)):
                await asyncio.sleep(0)
            if run.id in self.endings:
                await self.end(run, *self.endings.pop(run.id))
                return
            run = await self.say(run, *self._metrics(run, step))
            if self.deaths.get(run.id) == step:
                del self.deaths[run.id]
                self.train(await self.move(run, RunState.QUEUED, slot=""))
                return
        wrong = overrides.get("wrong", "")
        if wrong == "raise":
            await self.end(run, RunState.FAILED, "ValueError: the toy raises")
        elif end < total:
            run = dataclasses.replace(run, checkpoint_step=end)
            await self.end(run, RunState.STOPPED, "paused")
        else:
            await self.end(run, RunState.COMPLETED)

    def _metrics(self, run: Run, step: int) -> list[events.EncodedEvent]:
        wrong = run.request.overrides.get("wrong", "")
        is_last = step == int(str(run.request.overrides.get("steps", 9)))
        if wrong == "missing" or (wrong == "late" and not is_last):
            return [events.encode_progress(run.attempt, 1, step)]
        value = float("nan") if wrong == "nan" else loss(run.request.overrides, step)
        return events.encode_metrics(run.attempt, 1, [Point("loss", [step], [value])])

    async def end(self, run: Run, state: RunState, reason: str = "") -> None:
        """Bring a run to its end."""
        is_stopped = reason.startswith("stopped")
        await self.move(
            run,
            state,
            slot="",
            end_time_ns=time.time_ns(),
            reason=reason,
            is_stop_requested=is_stopped,
        )

    async def stop(self, run_id: str, *, checkpoint: bool, grace_s: float | None = None) -> Run:
        self.die_if_dead()
        run = await self.get(run_id)
        if not run.state.has_process:
            return await super().stop(run_id, checkpoint=checkpoint)
        self.endings[run_id] = (RunState.STOPPED, "stopped")
        return run

    async def go_on(self) -> None:
        """Go on with what an earlier server left."""
        for run in await self._store.unfinished():
            self._live[run.id] = run
            self.train(run)

    async def close(self) -> None:
        """Let go of all trainers."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


class MortalStore:
    """A store of searches whose server is killed before or after each write, as often as asked for.

    Args:
        store: the real one.
        on_kill: is called when it happens.
    """

    def __init__(self, store: Any, on_kill: Callable[[], None]) -> None:
        self._store, self._on_kill = store, on_kill
        self.is_dead = False
        self.kill_before: int = -1
        self.kill_after: int = -1
        self.num_writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, record: SearchRecord, payloads: Sequence[bytes]) -> None:
        self._die(self.kill_before)
        await self._store.append(record, payloads)
        self.num_writes += 1
        self._die(self.kill_after + 1 if self.kill_after >= 0 else -1)

    def _die(self, at: int) -> None:
        if not self.is_dead and self.num_writes == at:
            self.is_dead = True
            self._on_kill()
        if self.is_dead:
            raise Killed


class SearchRig:
    """A server's worth of searches, which the next one can take over."""

    def __init__(self, home: Path, seed: int = 0) -> None:
        home.mkdir(exist_ok=True)
        self.home, self.seed = home, seed
        self.refuses: Callable[[Mapping[str, PlainValue]], bool] = lambda _: False
        self.is_killed = asyncio.Event()

    async def open(self, *, kill_before: int = -1, kill_after: int = -1) -> None:
        """Start; with a number, be killed before or after that write of a log."""
        self.is_killed = asyncio.Event()
        self.store = SqlStore(f"sqlite:///{self.home / 'lab.db'}")
        self.hub = Hub(self.store, heartbeat_s=0.05, min_pause_s=0)
        self.runs = ToyRuns(self.store, self.hub, self.seed)
        self.log_store = MortalStore(self.store.searches, self._on_kill)
        self.log_store.kill_before, self.log_store.kill_after = kill_before, kill_after
        self.executor = ToyExecutor(lambda overrides: self.refuses(overrides))
        self.catalogue = Catalogue(self.executor)
        await self.catalogue.load()
        await self.runs.go_on()
        self.searches = Searches(
            store=self.log_store,
            runs=self.runs,
            run_store=self.store,
            catalogue=self.catalogue,
            hub=self.hub,
            heartbeat_s=0.05,
        )
        await self.searches.start_up()

    def _on_kill(self) -> None:
        self.runs.is_dead = True
        self.is_killed.set()

    async def close(self) -> None:
        """Let go of everything."""
        await self.searches.shut_down()
        await self.runs.close()
        self.hub.close()
        await self.store.close()

    async def create(self, wanted: SearchSpec, key: str = "") -> str:
        """Create a search and return its id."""
        idempotency = IdempotencyRecord(key, repr(wanted)) if key else None
        return (await self.searches.create(wanted, owner="", idempotency=idempotency)).id

    async def ended(self, search_id: str) -> Search:
        """Return a search when it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.searches.watch(search_id, 0):
                pass
        return await self.searches.folded(search_id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def training(self, after_step: int) -> set[str]:
        """Return the ids of the runs that train, and are behind a step."""
        return {
            run.id for run in self.runs.live() if run.state.has_process and run.step > after_step
        }

    async def entries(self, search_id: str) -> list[Entry]:
        """Return a search's whole log."""
        stored: Sequence[StoredEntry] = await self.store.searches.entries(search_id, 0, 10**6)
        assert [entry.seq for entry in stored] == list(range(1, len(stored) + 1))
        return [search_log.decode(entry.payload).entry for entry in stored]

    async def outcome(self, search_id: str) -> tuple[Any, ...]:
        """Return all that must be the same however often the server was killed."""
        search = await self.ended(search_id)
        trials = [
            (t.number, dict(t.params), t.seed, t.state, t.rung, t.values, t.step, t.num_seen)
            for t in search.trials
        ]
        counts = await self.store.counts()
        best = search.best
        return trials, best and best.number, search.state, search.reason, sum(counts.values())
