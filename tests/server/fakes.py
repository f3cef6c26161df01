"""Stand-ins for the supervisor and the executor, driven by the test, over a real store and hub."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lab_core.configs import PlainValue, Schema, SchemaItem
from lab_core.errors import ConfigError, Violation
from lab_server.errors import InvalidState, LaunchError, NotFound
from lab_server.executors.one_machine import OneMachine
from lab_server.executors.protocol import Usage
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.messages.projection import apply_event
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.fork import ForkSource, ForkTrial
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import (
    Begun,
    Run,
    RunOptions,
    RunRequest,
    RunState,
    TagChange,
    TrainerProcess,
)
from lab_server.model.slot import Slot
from lab_server.model.upload import Upload
from lab_server.store import IdempotencyRecord, Store
from lab_server.supervisor.forecast import Forecast, forecasts
from lab_server.watch.hub import Hub

MNIST = Schema(
    name="Configs",
    doc="A small network.\n\nMore of it.",
    items=(
        SchemaItem("epochs", "int", 10, True, doc="passes over the data", constraints={"ge": 1}),
        SchemaItem("learning_rate", "float", 0.01, True, is_hyperparam=True),
        SchemaItem(
            "optimizer",
            "object",
            "sgd_optimizer",
            True,
            options=("sgd_optimizer", "adam_optimizer"),
            functions=("sgd_optimizer", "adam_optimizer"),
        ),
        SchemaItem("label", "str", "", True),
    ),
    run_targets=("run",),
    default_run_order=("run",),
)


class FakeExecutor(OneMachine):
    """Knows one good experiment and a broken one; launches nothing."""

    def __init__(
        self, slots: Sequence[Slot] = (Slot("cpu:0", "cpu"), Slot("cuda:0", "cuda:0"))
    ) -> None:
        self.slots = slots
        self.violations: tuple[Violation, ...] = ()
        self.is_closed = False
        self.sent: tuple[str, ...] = ("sent",)

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        if upload is not None:
            return tuple(ExperimentEntry(name, MNIST) for name in self.sent)
        return (
            ExperimentEntry("mnist", MNIST),
            ExperimentEntry("broken", None, "No module named 'nothing'", "in line 1\n"),
        )

    async def reload(self) -> None:
        return

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue], upload: Upload | None = None
    ) -> tuple[Violation, ...]:
        return self.violations

    async def try_fork(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        source: ForkSource,
        upload: Upload | None = None,
    ) -> ForkTrial:
        return ForkTrial()

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        raise LaunchError("a fake starts nothing")

    async def inspect(
        self,
        spec_folder: object,
        attempt: int,
        begun: Begun = Begun(),  # noqa: B008 - frozen
    ) -> TrainerProcess | None:
        return None

    async def wait(self, process: TrainerProcess) -> str:
        return ""

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        return

    async def usages(self, trainers: Sequence[TrainerProcess]) -> Mapping[TrainerProcess, Usage]:
        return {trainer: Usage(1.5, 1 << 20) for trainer in trainers}

    async def close(self) -> None:
        self.is_closed = True


class FakeSupervisor:
    """Keeps the rules of a run's states, and lets the test say what trainers do."""

    queue_limit = 3
    leader = ""

    def __init__(self, store: Store, hub: Hub, executor: FakeExecutor) -> None:
        self._store, self._hub, self._executor = store, hub, executor
        self._live: dict[str, Run] = {}
        self._num_created = 0

    def queue_length(self) -> int:
        return sum(run.state is RunState.QUEUED for run in self._live.values())

    def queue_position(self, run_id: str) -> int:
        waiting = [r.id for r in self._live.values() if r.state is RunState.QUEUED]
        return waiting.index(run_id) + 1 if run_id in waiting else 0

    def slots(self) -> Sequence[tuple[Slot, str]]:
        owners = {run.slot: run.id for run in self._live.values() if run.slot}
        return [(slot, owners.get(slot.name, "")) for slot in self._executor.slots]

    @property
    def devices(self) -> Sequence[str]:
        return [slot.device for slot in self._executor.slots]

    def check_place(self, options: RunOptions, *, is_upload: bool) -> None:
        if options.pool:
            what = "code" if is_upload else "run"
            raise ConfigError([Violation("options.pool", f"no {what} gets in {options.pool!r}")])

    def live(self) -> Sequence[Run]:
        return tuple(self._live.values())

    def forecasts(self) -> Mapping[str, Forecast]:
        return forecasts(self.live(), self.slots())

    def lag_s(self, run_id: str) -> float:
        return 0.25

    async def create(
        self,
        request: RunRequest,
        *,
        owner: str,
        config_hash: str,
        key: str | None,
        fingerprint: str,
        configs: Mapping[str, PlainValue] | None = None,
        code_digest: str = "",
    ) -> Run:
        self.check_place(request.options, is_upload=request.upload is not None)
        self._num_created += 1
        run_id = f"20261123-000000-{self._num_created:06x}"
        run = Run(
            run_id,
            request,
            owner,
            config_hash=config_hash,
            configs=dict(configs or {}),
            planned_digest=code_digest,
            create_time_ns=time.time_ns(),
        )
        idempotency = IdempotencyRecord(key, fingerprint) if key else None
        created = await self._store.create(run, idempotency)
        if created.id == run_id:
            return await self.move(created, RunState.CREATED)
        return await self._store.get(created.id)

    async def start(
        self,
        run_id: str,
        *,
        resume: bool = False,
        until_step: int = 0,
        key: str | None = None,
        code_digest: str = "",
    ) -> Run:
        run = await self.get(run_id)
        planned_digest = code_digest or run.planned_digest
        run = dataclasses.replace(run, until_step=until_step, planned_digest=planned_digest)
        startable = (RunState.STOPPED, RunState.FAILED) if resume else (RunState.CREATED,)
        if run.state not in startable:
            raise InvalidState(f"run {run.id} is {run.state.value} and cannot be started")
        return await self.move(run, RunState.QUEUED)

    async def stop(self, run_id: str, *, checkpoint: bool, grace_s: float | None = None) -> Run:
        run = await self.get(run_id)
        if run.state.is_terminal:
            raise InvalidState(f"run {run.id} has ended already")
        return await self.move(run, RunState.STOPPED, is_stop_requested=True)

    async def save_checkpoint(self, run_id: str) -> Run:
        run = await self.get(run_id)
        if not run.state.has_process:
            raise InvalidState(f"run {run.id} is {run.state.value}: it does not train")
        return run

    async def bring_files(self, run: Run) -> Run:
        return run

    async def update(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: TagChange = TagChange(),  # noqa: B008 - frozen
        notes: str | None = None,
    ) -> Run:
        run = await self.get(run_id)
        given = {"name": name, "tags": tags.of(run.request.tags), "notes": notes}
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        run = dataclasses.replace(run, request=dataclasses.replace(run.request, **changes))
        await self._store.commit(run)
        return run

    async def delete(self, run_id: str) -> None:
        run = await self.get(run_id)
        if not run.state.is_terminal and run.state is not RunState.CREATED:
            raise InvalidState(f"run {run.id} is {run.state.value}: stop it first")
        await self._store.delete(run.id)
        await self._store.purge(run.id)
        self._hub.forget(run.id)

    async def get(self, run_id: str) -> Run:
        if run_id in self._live:
            return self._live[run_id]
        ids = await self._store.ids_with_prefix(run_id)
        if len(ids) != 1:
            raise NotFound("run", run_id)
        return self._live.get(ids[0]) or await self._store.get(ids[0])

    async def move(self, run: Run, state: RunState, **changes: Any) -> Run:
        """Bring a run into a state, with its event."""
        run = dataclasses.replace(run, state=state, **changes)
        return await self.say(run, events.encode_state(run.attempt, time.time_ns(), state))

    async def say(self, run: Run, *news: EncodedEvent) -> Run:
        """Append events to a run's log."""
        run = dataclasses.replace(run, last_seq=run.last_seq + len(news))
        for event in news:
            run = apply_event(run, event)
        is_live = run.state.has_process or run.state is RunState.QUEUED
        if is_live:  # before its events are in the store, where watchers may find them at once
            self._live[run.id] = run
        stored = await self._store.commit(run, news)
        if not is_live:
            self._live.pop(run.id, None)
        self._hub.publish(stored)
        return run
