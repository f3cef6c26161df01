"""The attempts that an agent holds: begun, ordered about, and let go of as the server asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog

from lab_server.agent.attempt import HeldAttempt
from lab_server.agent.home import AgentHome
from lab_server.agent.link import Link
from lab_server.agent.uploads import AgentUploads
from lab_server.executors.protocol import Executor, Usage
from lab_server.model.agent import (
    AGENT_LEFT,
    AttemptKey,
    Command,
    FromAgent,
    Kill,
    Launch,
    Launched,
    Release,
)
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.processes.patience import note_shortage, patiently

_log = structlog.get_logger("lab_agent")

_BEAT_S = 1.0
_LOOK_S = 0.2


class Holding:
    """Owns the attempts of an agent, in the agent's loop.

    Args:
        executor: starts trainers here.
        tell: says something to the server, if it is in reach.

    Attributes:
        is_closed: no new attempt is taken.
    """

    def __init__(
        self,
        home: AgentHome,
        executor: Executor,
        link: Link,
        uploads: AgentUploads,
        tell: Callable[[FromAgent], None],
    ) -> None:
        self._home = home
        self._executor = executor
        self._link = link
        self._uploads = uploads
        self._tell = tell
        self._held: dict[AttemptKey, HeldAttempt] = {}
        self._releasing: dict[AttemptKey, asyncio.Task[None]] = {}
        self._usages: Mapping[TrainerProcess, Usage] = {}
        self.is_closed = False

    @property
    def keys(self) -> tuple[AttemptKey, ...]:
        """The attempts."""
        return tuple(self._held)

    def take_over(self) -> None:
        """Hold what an earlier agent of the home held."""
        for spec in self._home.held():
            self._hold(spec)

    def obey(self, said: Launch | Command | Kill | Release) -> None:
        """Do what the server asks for; again is fine."""
        if isinstance(said, Launch):
            self._launch(said)
            return
        held = self._held.get(said.key)
        match said:
            case _ if held is None:
                pass
            case Command(line=line):
                held.command(line)
            case Kill(grace_s=grace_s):
                held.end(grace_s)
            case Release(key):
                self._release(key)

    def report(self, keys: Iterable[AttemptKey]) -> None:
        """Tell a server again what it may not have heard of the attempts that it knows."""
        for key in keys:
            if key in self._held:
                self._held[key].report()

    def upload_anew(self) -> None:
        """Take the server to have none of the files: it is one with another home."""
        for held in self._held.values():
            held.upload_anew()

    def end_trainers(self, grace_s: float, cause: str) -> None:
        """End the trainers that run now, by SIGTERM, after grace_s by SIGKILL."""
        for held in self._held.values():
            if held.process is not None:
                _log.error("ending a trainer", attempt=str(held.key), reason=cause)
                held.end(grace_s, cause)

    async def end_all(self, grace_s: float, cause: str) -> None:
        """End every attempt, also one that only begins, and return when all of it is shipped and let go of."""
        held = list(self._held.values())
        for each in held:
            each.end(grace_s, cause)
        await asyncio.gather(*(each.until_told() for each in held))
        await self.until_empty()

    async def until_empty(self) -> None:
        """Return when the server has let go of every attempt."""
        while self._held:  # noqa: ASYNC110 - it lets go of each when it has all of it
            await asyncio.sleep(_LOOK_S)

    async def beat(self) -> None:
        """Tell the server of each trainer's progress, and what it uses."""
        while True:
            await asyncio.sleep(_BEAT_S)
            running = [held for held in self._held.values() if held.process is not None]
            processes = [held.process for held in running if held.process is not None]
            usages = self._usages = await self._usages_of(processes) if processes else {}
            for held in running:
                usage = usages.get(held.process) if held.process is not None else None
                beat = held.beat((usage.cpu_seconds, usage.memory_bytes) if usage else None)
                if beat is not None:
                    self._tell(beat)

    async def _usages_of(
        self, processes: Sequence[TrainerProcess]
    ) -> Mapping[TrainerProcess, Usage]:
        """Return what trainers use; as it was last, where there is no file descriptor to look with."""
        try:
            return await self._executor.usages(processes)
        except OSError as error:
            note_shortage(error)
            return {process: self._usages.get(process, Usage(0.0, 0)) for process in processes}

    async def close(self) -> None:
        """Let go of the attempts; their trainers go on, and the next agent of the home takes them over."""
        releasing = tuple(self._releasing.values())
        for task in releasing:
            task.cancel()
        await asyncio.gather(*releasing, return_exceptions=True)
        for held in self._held.values():
            held.close()

    def _launch(self, said: Launch) -> None:
        key, spec = said.key, said.spec
        if key in self._held:
            self._held[key].report()
            return
        if self.is_closed:
            self._tell(Launched(key, None, AGENT_LEFT))
            return
        # an earlier attempt of the run, or the last one in the slot, ends before this begins
        others = [
            held.key
            for held in self._held.values()
            if held.key.run_id == key.run_id or held.slot.rpartition("/")[2] == said.slot
        ]
        ending = [self._release(other) for other in others]

        async def prepare() -> None:
            if ending:
                await asyncio.wait(ending)
            await patiently(lambda: asyncio.to_thread(self._home.hold, spec))

        self._hold(spec, prepare)

    def _hold(self, spec: LaunchSpec, prepare: Callable[[], Awaitable[None]] | None = None) -> None:
        held = HeldAttempt(
            self._home, self._executor, self._link, self._uploads, spec, self._tell, prepare
        )
        self._held[held.key] = held

    def _release(self, key: AttemptKey) -> asyncio.Task[None]:
        """Begin to release an attempt, once: what comes after it in its folder is not to be removed."""
        task = self._releasing.get(key)
        if task is None:
            task = self._releasing[key] = asyncio.create_task(self._let_go(self._held[key]))
        return task

    async def _let_go(self, held: HeldAttempt) -> None:
        try:
            await held.release()
            del self._held[held.key]
        except OSError as error:
            _log.error("cannot release an attempt", attempt=str(held.key), reason=error.strerror)
        finally:
            del self._releasing[held.key]
