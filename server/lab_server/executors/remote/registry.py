"""The agents that a server has, and the attempts that they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from lab_server.descriptors import raise_if_blind
from lab_server.errors import InvalidState, LaunchError, PermissionDenied
from lab_server.executors.protocol import Usage
from lab_server.executors.remote.agent import Agent
from lab_server.executors.remote.attempt import RemoteAttempt
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import (
    AttemptKey,
    Beat,
    Command,
    Ended,
    Experiments,
    FromAgent,
    Gpus,
    Hello,
    Launched,
    Leaving,
    Ping,
    Release,
    Reload,
    Servers,
    Stop,
    ToAgent,
    Welcome,
)
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Begun, TrainerProcess
from lab_server.model.slot import Slot, agent_of

_log = structlog.get_logger("lab_server.agents")

_RETRY_S = 1.0


class Agents:
    """Knows each agent and each attempt on one. Used by the event loop's thread only.

    An agent that is not attached is out of reach, not dead: it trains on. Only when its lease is over is it
    given up with its attempts, and by then it has ended its trainers itself.

    Args:
        lease_s: for how long an agent may train without the server.
        pools: the names of pools that have agents, or may get some.
        home: which folder the runs' files are in; one name means one folder.
    """

    def __init__(self, lease_s: float, pools: Sequence[str] = (), home: str = "") -> None:
        self.lease_s = lease_s
        self._home = home
        self._pools = dict.fromkeys(pools)
        self._agents: dict[str, Agent] = {}
        self._attempts: dict[AttemptKey, RemoteAttempt] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._servers = Servers(())
        self._observers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Agent]:
        """Yield every agent that is attached, or whose lease is not over."""
        return iter(tuple(self._agents.values()))

    def observe(self, on_change: Callable[[], None]) -> None:
        """Call a function whenever an agent comes or goes."""
        self._observers.append(on_change)

    def get(self, name: str) -> Agent | None:
        """Return an agent, None if there is none of this name."""
        return self._agents.get(name)

    def expect(self, pools: Iterable[str]) -> None:
        """Know pools that had an agent before."""
        self._pools |= dict.fromkeys(pools)

    @property
    def pools(self) -> Sequence[str]:
        """The names of the pools that had an agent, or may get one."""
        return tuple(self._pools)

    def usages(self) -> Mapping[TrainerProcess, Usage]:
        """Return what each trainer on an agent uses, as last told."""
        return {a.process: a.usage for a in self._attempts.values() if a.process and a.usage}

    # ---- the agents' side

    def attach(self, name: str, pool: str, hello: Hello, send: Callable[[ToAgent], None]) -> Agent:
        """Take an agent in, or back: tell it what is still its own, and what it has not heard."""
        before = self._agents.get(name)
        if before is not None and before.end is not None:
            before.end()
        agent = Agent(name, pool, experiments=hello.experiments, send=send, away_since_ns=0)
        agent.is_leaving = hello.is_leaving
        agent.slots = tuple(
            Slot(f"{pool}/{name}/{slot.name}", slot.device, pool, hello.takes_uploads)
            for slot in hello.slots
        )
        self._agents[name] = agent
        self._pools[pool] = None
        self._renew(name)
        mine = {key: attempt for key, attempt in self._attempts.items() if attempt.agent == name}
        held = {key: mine[key].spool_bytes for key in hello.held if key in mine}
        send(Welcome(self.lease_s, held, self._home))
        if self._servers.addresses:
            send(self._servers)
        for key in hello.held:
            if key not in mine:
                send(Release(key))
        for key, attempt in mine.items():
            if key not in held and attempt.launched.done():
                attempt.fail(f"agent {name} has lost it")
            self._tell(attempt)
        _log.info("agent attached", agent=name, pool=pool, slots=len(agent.slots), held=len(held))
        self._changed()
        return agent

    def refuse(self, name: str, reason: str) -> None:
        """Note why an agent that is out of reach cannot come back."""
        agent = self._agents.get(name)
        if agent is not None and agent.send is None:
            agent.refusal = reason

    def detach(self, agent: Agent) -> None:
        """Note that an agent's stream has ended; one that left with nothing to do is gone."""
        if self._agents.get(agent.name) is not agent:
            return  # it has attached again, or was given up
        agent.send = None
        agent.away_since_ns = time.time_ns()
        if agent.is_leaving and not self._attempts_of(agent.name):
            self._remove(agent.name)
            _log.info("agent left", agent=agent.name)
        else:
            _log.warning("agent out of reach", agent=agent.name, lease_s=self.lease_s)
        self._changed()

    def receive(self, agent: Agent, told: FromAgent) -> None:
        """Take note of what an agent says; what is not its own is not heard.

        Raises:
            InvalidState: If the agent was given up, or has attached again since.
        """
        if self._agents.get(agent.name) is not agent:
            raise InvalidState(f"agent {agent.name} is no longer attached by this stream")
        match told:
            case Ping(number):
                self._renew(agent.name)
                agent.tell(Ping(number))
            case Leaving():
                agent.is_leaving = True
                self._changed()
            case Experiments(experiments):
                agent.experiments = experiments
                self._changed()
            case Gpus(gpus):
                agent.gpus = gpus
            case Launched() | Beat() | Ended():
                attempt = self._attempts.get(told.key)
                if attempt is not None and attempt.agent == agent.name:
                    _note(attempt, told)
                else:
                    agent.tell(Release(told.key))
            case Hello():
                raise InvalidState("an agent says hello once")

    def attempt(self, agent_name: str, key: AttemptKey) -> RemoteAttempt:
        """Return an attempt for the agent that has it.

        Raises:
            InvalidState: If the attempt is over, for the server: nothing of it is taken any more.
            PermissionDenied: If it is not the agent's.
        """
        attempt = self._attempts.get(key)
        if attempt is None or attempt.ended.done():
            raise InvalidState(f"{key} is over; nothing more of it is taken")
        if attempt.agent != agent_name:
            raise PermissionDenied(f"{key} is not one of agent {agent_name}")
        return attempt

    # ---- the server's side

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start a trainer on the agent that has the slot; the same attempt again returns the same process.

        Raises:
            LaunchError: If it cannot be started, or the agent is given up before it was.
        """
        key = AttemptKey(spec.run_id, spec.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._add(key, agent_of(spec.slot), RunFolder(spec.folder))
        if attempt.agent not in self._agents:
            raise LaunchError(f"agent {attempt.agent} is gone")
        try:
            attempt.folder.make()
        except OSError as error:
            raise LaunchError(f"{spec.folder} cannot be created: {error.strerror}") from error
        attempt.launch(spec)
        self._tell(attempt)
        return await asyncio.shield(attempt.launched)

    def adopt(self, folder: Path, number: int, begun: Begun) -> TrainerProcess | None:
        """Return the trainer of an attempt that an earlier server gave to an agent, None if it has none yet.

        The agent has one lease, from now on, to attach.

        Raises:
            OSError: If there is no file descriptor to look with; call it again.
        """
        name = agent_of(begun.slot)
        if name not in self._agents:
            self._agents[name] = Agent(name, begun.slot.partition("/")[0])
            self._renew(name)
        attempt = self._add(AttemptKey(folder.name, number), name, RunFolder(folder))
        try:
            attempt.bring_up(begun.process, begun.spool_offset)
        except OSError as error:  # the agent tells and ships it again
            raise_if_blind(error)
            _log.warning("cannot write what the store knows of an attempt", reason=error.strerror)
        return attempt.process

    def find(self, process: TrainerProcess) -> RemoteAttempt | None:
        """Return the attempt of a trainer, None once it is forgotten."""
        return next((a for a in self._attempts.values() if a.process == process), None)

    async def kill(self, process: TrainerProcess, grace_s: float) -> None:
        """End a trainer; returns when it has ended, or its agent is given up."""
        attempt = self.find(process)
        if attempt is None or attempt.ended.done():
            return
        asked = attempt.kill(grace_s)
        agent = self._agents.get(attempt.agent)
        if agent is not None and agent.send is not None:
            agent.send(asked)
        await asyncio.shield(attempt.ended)

    def relay(self, key: AttemptKey) -> None:
        """Bring the commands in an attempt's control file to its agent; again is fine."""
        attempt = self._attempts.get(key)
        agent = self._agents.get(attempt.agent) if attempt else None
        if attempt is None or agent is None or agent.send is None:
            return
        try:
            lines = attempt.folder.commands(key.attempt)
        except OSError:  # there is no file descriptor to read them with
            asyncio.get_running_loop().call_later(_RETRY_S, self.relay, key)
            return
        for line in lines:
            agent.send(Command(key, line))

    def forget(self, key: AttemptKey) -> None:
        """Let go of an attempt, and have its agent do so."""
        attempt = self._attempts.pop(key, None)
        agent = self._agents.get(attempt.agent) if attempt else None
        if attempt is None or agent is None:
            return
        attempt.fail("it was forgotten")
        if agent.send is not None:
            agent.send(Release(key))
        elif agent.is_leaving and not self._attempts_of(agent.name):
            self._remove(agent.name)
            self._changed()

    def drain(self, name: str) -> None:
        """Give an agent no more runs."""
        agent = self._agents.get(name)
        if agent is not None:
            agent.is_leaving = True

    def retire(self, name: str) -> None:
        """Have an agent stop; it gets no more runs."""
        agent = self._agents.get(name)
        if agent is not None and agent.send is not None:
            agent.is_leaving = True
            agent.send(Stop())

    def reload(self) -> None:
        """Have every agent import its experiments anew."""
        self._tell_all(Reload())

    def tell_servers(self, addresses: Sequence[str]) -> None:
        """Tell every agent where the servers of the store are, now and when it attaches."""
        servers = Servers(tuple(addresses))
        if servers != self._servers:
            self._servers = servers
            self._tell_all(servers)

    def close(self) -> None:
        """Wait for no lease any more."""
        for timer in self._timers.values():
            timer.cancel()

    # ---- steps

    def _add(self, key: AttemptKey, agent: str, folder: RunFolder) -> RemoteAttempt:
        attempt = self._attempts[key] = RemoteAttempt(key, agent, folder)
        return attempt

    def _tell_all(self, said: ToAgent) -> None:
        for agent in self._agents.values():
            if agent.send is not None:
                agent.send(said)

    def _attempts_of(self, name: str) -> Sequence[RemoteAttempt]:
        return [attempt for attempt in self._attempts.values() if attempt.agent == name]

    def _tell(self, attempt: RemoteAttempt) -> None:
        """Tell the agent what it may not have heard of an attempt."""
        agent = self._agents.get(attempt.agent)
        if agent is None or agent.send is None:
            return
        for asked in attempt.pending():
            agent.send(asked)
        self.relay(attempt.key)

    def _renew(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(self.lease_s, self._give_up, name)

    def _give_up(self, name: str) -> None:
        agent = self._agents[name]
        if agent.send is not None:  # attached, and silent
            agent.send, agent.away_since_ns = None, time.time_ns() - int(self.lease_s * 1e9)
            if agent.end is not None:
                agent.end()
        cause = f"{agent.out_of_reach}, and its lease of {self.lease_s:g} s is over"
        _log.error("gave up an agent", agent=name, reason=cause)
        self._remove(name)
        for attempt in self._attempts_of(name):
            attempt.fail(cause)
        self._changed()

    def _remove(self, name: str) -> None:
        del self._agents[name]
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _changed(self) -> None:
        for observer in self._observers:
            observer()


def _note(attempt: RemoteAttempt, told: Launched | Beat | Ended) -> None:
    match told:
        case Launched():
            attempt.note_launched(told)
        case Beat():
            attempt.note_beat(told)
        case Ended():
            if not attempt.note_ended(told):
                _log.warning("events of an ended attempt are missing", attempt=str(attempt.key))
