"""One executor out of two: trainers on this machine, and trainers on agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lab_core.configs import PlainValue
from lab_core.errors import Violation
from lab_server.errors import LaunchError
from lab_server.executors.pools.pools import Pools
from lab_server.executors.protocol import Executor, Usage
from lab_server.executors.remote.agent import Agent
from lab_server.executors.remote.registry import Agents
from lab_server.executors.upload_generations import NO_UPLOADS
from lab_server.model.agent import HOSTS_POOL, AttemptKey
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.fork import ForkSource, ForkTrial
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Begun, TrainerProcess
from lab_server.model.slot import Slot, Wants, agent_of, parse_slots
from lab_server.model.upload import Upload
from lab_server.processes.patience import seen


class ClusterExecutor:
    """Sends what is about a slot or a trainer to where that is; experiments are described here.

    Args:
        here: the executor of this machine.
        agents: those on others.
        pools: who starts agents.
        own: the server's own slots, where an agent on this host has them.
        takes_uploads: whether code that clients sent is run.
    """

    def __init__(
        self,
        here: Executor,
        agents: Agents,
        pools: Pools,
        own: Sequence[Slot] = (),
        *,
        takes_uploads: bool = False,
    ) -> None:
        self._takes_uploads = takes_uploads
        self._here = here
        self._agents = agents
        self._pools = pools
        self._own = tuple(replace(slot, pool=HOSTS_POOL) for slot in own)
        self._digests: Mapping[str, str] = {}

    @property
    def slots(self) -> Sequence[Slot]:
        """Every slot there is now: those of this machine, and those of agents."""
        return (*self._here.slots, *(slot for agent in self._agents for slot in agent.slots))

    @property
    def pools(self) -> Sequence[str]:
        """The names of the pools that a run may ask for."""
        configured = [pool.name for pool in self._pools]
        return tuple(dict.fromkeys([*configured, *self._agents.pools]))

    @property
    def devices_to_come(self) -> Sequence[str]:
        """The devices of slots that may come."""
        in_pools = [slot for pool in self._pools for slot in parse_slots(pool.slots)]
        return [slot.device for slot in (*self._own, *in_pools)]

    def may_come(self, wants: Wants) -> bool:
        """Whether there may be a slot for a run later that is not there yet."""
        return any(map(wants.fit, self._own)) or self._pools.may_have(wants)

    def news(self, wants: Wants) -> str:
        """Return what becomes of slots that a run waits for and that are not there, as a clause, or ""."""
        return self._pools.news(wants)

    def observe(self, on_change: Callable[[], None]) -> None:
        """Call a function whenever an agent comes or goes."""
        self._agents.observe(on_change)

    def obstacle(self, slot: Slot, wants: Wants) -> str:
        """Return why a run that fits a slot cannot have it now, as a clause, "" when it can."""
        agent = self._agents.get(agent_of(slot.name))
        if agent is None:
            return self._here.obstacle(slot, wants)
        if agent.pool == HOSTS_POOL and self._is_current(agent, wants.experiment):
            # as in a server's own process: a run that waited while its code was edited has the code of now
            wants = replace(wants, code_digest="")
        return agent.obstacle(wants)

    def _is_current(self, agent: Agent, experiment: str) -> bool:
        """Whether an agent has the code of an experiment that this machine has."""
        digest = self._digests.get(experiment)
        return digest is not None and agent.experiments.get(experiment) == digest

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        """Return the experiments of this machine, or of an upload, as their code is now."""
        entries = await self._here.describe(upload)
        if upload is None:
            self._digests = {entry.name: entry.code_digest for entry in entries}
        return entries

    async def reload(self) -> None:
        """Import the experiments anew here and on agents, whether their code changed or not."""
        await self._here.reload()
        self._agents.reload()

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue], upload: Upload | None = None
    ) -> tuple[Violation, ...]:
        """Run the experiment's own checks on a config message, on this machine.

        Raises:
            CheckCrashed: If that has no answer.
        """
        return await self._here.check(experiment, overrides, upload)

    async def try_fork(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        source: ForkSource,
        upload: Upload | None = None,
    ) -> ForkTrial:
        """See on this machine whether a fork's models and optimizers fit."""
        return await self._here.try_fork(experiment, overrides, source, upload)

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start a trainer for an attempt; the same attempt again returns the same process.

        Raises:
            LaunchError: If no process could be started.
        """
        if not agent_of(spec.slot):
            return await self._here.launch(spec)
        if spec.upload is not None and not self._takes_uploads:
            raise LaunchError(NO_UPLOADS)
        return await self._agents.launch(spec)

    async def inspect(
        self,
        spec_folder: Path,
        attempt: int,
        begun: Begun = Begun(),  # noqa: B008 - frozen
    ) -> TrainerProcess | None:
        """Return the attempt's trainer while any process of it lives, or may live, else None."""
        if agent_of(begun.slot):
            return await seen(lambda: self._agents.adopt(spec_folder, attempt, begun))
        return await self._here.inspect(spec_folder, attempt)

    def out_of_reach(self, process: TrainerProcess) -> str:
        """Return since when nobody can know how a trainer is, as a clause; "" when it is in reach."""
        agent = self._agents.get(process.agent)
        return "" if agent is None or agent.send is not None else agent.out_of_reach

    def is_lost(self, process: TrainerProcess) -> bool:
        """Whether a trainer's agent was given up, so that events or files of it are missing for good."""
        attempt = self._agents.find(process) if process.agent else None
        return attempt is not None and attempt.is_lost

    async def wait(self, process: TrainerProcess) -> str:
        """Return when the trainer has ended: how, in words, "" when its exit status is unknown."""
        if not process.agent:
            return await self._here.wait(process)
        attempt = self._agents.find(process)
        return "" if attempt is None else await attempt.until_ended()

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        """End a trainer, and all that it started; return when all are gone, or its agent is given up."""
        if process.agent:
            await self._agents.kill(process, grace_s)
        else:
            await self._here.kill(process, grace_s=grace_s)

    async def usages(self, trainers: Sequence[TrainerProcess]) -> Mapping[TrainerProcess, Usage]:
        """Return what each trainer and its children use; one that is gone is not in it."""
        mine = await self._here.usages([trainer for trainer in trainers if not trainer.agent])
        theirs = self._agents.usages()
        return {**mine, **{t: theirs[t] for t in trainers if t.agent and t in theirs}}

    async def relay(self, folder: Path, attempt: int) -> None:
        """Bring what was just added to a run's control file to the attempt's trainer."""
        self._agents.relay(AttemptKey(folder.name, attempt))

    def forget(self, run_id: str, attempt: int) -> None:
        """Let go of an attempt: how it ended is in the store."""
        self._agents.forget(AttemptKey(run_id, attempt))

    async def close(self) -> None:
        """Stop the executor itself; trainers go on."""
        await self._here.close()
