"""One pool: starts agents by its engine when runs wait, and lets idle ones go."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import structlog

from lab_server.errors import StoreError
from lab_server.executors.pools.engine import Engine, EngineError, Job, JobState
from lab_server.executors.pools.sizing import Standing, changes
from lab_server.executors.remote.registry import Agents
from lab_server.model.slot import Wants
from lab_server.settings.pools import PoolSettings

_log = structlog.get_logger("lab_server.pools")

_JOIN_S = 300.0  # from a job's begin to its agent's first word
_FORGOTTEN_S = 30.0  # for an agent to attach whose job the engine has forgotten
_MAX_PAUSE_S = 300.0
_FIRST_PAUSE_S = 2.0


class Pool:
    """Owns the jobs of one pool's agents.

    Args:
        server: where agents reach the server.
        owner: of the jobs, as their names say it: other servers may use the same cluster.
        join_token: makes a one-time token for an agent of the pool; "" where none is needed.
    """

    def __init__(
        self,
        settings: PoolSettings,
        engine: Engine,
        agents: Agents,
        *,
        server: str,
        owner: str,
        join_token: Callable[[], Awaitable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._agents = agents
        self._server = server
        self._join_token = join_token
        self._clock = clock
        self._prefix = f"{settings.name}-{owner}-"
        # not only the prefix: another pool's name may begin so
        self._name = re.compile(re.escape(self._prefix) + r"[0-9a-f]{6}")
        self._jobs: Mapping[str, Job] = {}
        self._asked: dict[str, float] = {}  # submitted, and not attached yet
        self._unsure = ""  # the name of a job that was submitted without an answer
        self._missing_since: dict[str, float] = {}  # asked for, and not known to the engine
        self._alone_since: dict[str, float] = {}  # jobs that run, and have no agent
        self._busy_at: dict[str, float] = {}
        self._draining: set[str] = set()
        self._away = ""  # why the engine does not say which jobs there are
        self._problem = ""
        self._pause_s = 0.0
        self._next_try = 0.0

    @property
    def news(self) -> str:
        """Why it has no more agents, or that it starts some, as a clause; "" for nothing."""
        name = self.settings.name
        if problem := self._away or self._problem:
            return f"pool {name!r} cannot start an agent: {problem}"
        if coming := {*self._asked, *(job for job in self._alive if not self._agents.get(job))}:
            reasons = {self._jobs[job].reason for job in coming if job in self._jobs} - {""}
            why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
            what = "an agent" if len(coming) == 1 else f"{len(coming)} agents"
            return f"pool {name!r} starts {what}{why}"
        return ""

    async def adjust(self, waiting: Sequence[Wants], busy_slots: Sequence[str]) -> Sequence[Wants]:
        """Look at the jobs, and start or let go what there are too few or too many of.

        Args:
            waiting: what the waiting runs that this pool can serve want.
            busy_slots: the names of slots that have a run.

        Returns:
            The waiting runs for which it has no agent and starts none: another pool may take them.
        """
        try:
            jobs = await self._engine.jobs(self._prefix)
        except EngineError as error:
            self._note_away(str(error))
            return waiting
        self._away = ""
        self._jobs = {name: job for name, job in jobs.items() if self._name.fullmatch(name)}
        now = self._clock()
        self._note_jobs(now)
        await self._cancel_hung(now)
        mine = [slot.partition("/")[2].partition("/")[0] for slot in busy_slots]
        pool = [agent for agent in self._agents if agent.pool == self.settings.name]
        leaving = {agent.name for agent in pool if agent.is_leaving}
        attached = {agent.name for agent in pool} - leaving
        self._busy_at = {n: at for n, at in self._busy_at.items() if n in attached}
        for name in mine:
            self._busy_at[name] = now
        idle = sorted(
            (name for name in attached if self._is_idle(name, now)),
            key=lambda name: self._busy_at[name],
        )
        agents = (attached | self._alive | set(self._asked)) - leaving
        self._drain(len(agents) - self.settings.max, attached, mine)
        standing = Standing(agents, tuple(idle), len(mine), len(waiting))
        todo = changes(self.settings, standing)
        for name in todo.leaving:
            _log.info("letting an idle agent go", agent=name)
            self._agents.retire(name)
        if todo.num_new and now >= self._next_try:
            await self._start(todo.num_new)
        num_agents = len(agents) if self._problem else self.settings.max
        num_free = num_agents * self.settings.num_slots - len(mine)
        return waiting[max(0, num_free) :]

    def _drain(self, num: int, attached: Collection[str], busy: Collection[str]) -> None:
        """Give no more runs to agents that are too many, and let each go once it has none.

        There may be such when Ray has forgotten the job of an agent that had not attached yet.
        """
        for name in sorted(attached)[: max(0, num)]:
            _log.warning("an agent is one too many", agent=name, max=self.settings.max)
            self._agents.drain(name)
            self._draining.add(name)
        for name in self._draining - set(busy):
            self._draining.remove(name)
            self._agents.retire(name)

    async def close(self) -> None:
        """Close the engine's connections; agents go on."""
        await self._engine.close()

    @property
    def _alive(self) -> set[str]:
        """The names of the jobs that wait or run."""
        return {name for name, job in self._jobs.items() if job.state is not JobState.ENDED}

    def _is_idle(self, name: str, now: float) -> bool:
        since = self._busy_at.setdefault(name, now)
        return now - since >= self.settings.idle_s

    def _note_jobs(self, now: float) -> None:
        """Forget what was asked for once it has come, or will not come."""
        if self._unsure in self._jobs:
            self._asked[self._unsure], self._unsure = now, ""
        self._missing_since = {
            name: self._missing_since.get(name, now)
            for name in self._asked
            if name not in self._jobs
        }
        for name in list(self._asked):
            job = self._jobs.get(name)
            agent = self._agents.get(name)
            if agent is not None and agent.send is not None:
                del self._asked[name]
                self._problem, self._pause_s = "", 0.0
            elif job is not None and job.state is JobState.ENDED:
                del self._asked[name]
                self._fail(f"its job {name} ended: {job.reason or 'the engine does not say why'}")
            elif job is None and now - self._missing_since[name] > _FORGOTTEN_S:
                del self._asked[name]
                self._fail(f"its job {name} was submitted, and the engine does not know it")

    async def _cancel_hung(self, now: float) -> None:
        """Cancel jobs that have run for too long without an agent, whichever server submitted them."""
        self._alone_since = {
            name: self._alone_since.get(name, now)
            for name, job in self._jobs.items()
            if job.state is JobState.RUNNING and self._agents.get(name) is None
        }
        for name, since in list(self._alone_since.items()):
            if now - since <= _JOIN_S:
                continue
            self._asked.pop(name, None)
            self._alone_since[name] = now  # tried again, if it is still there then
            try:
                await self._engine.cancel(name)
            except EngineError as error:
                self._fail(f"its job {name} cannot be cancelled: {error}")
            else:
                self._fail(
                    f"no agent has joined from its job {name} in {_JOIN_S:g} s; it was cancelled"
                )

    async def _start(self, num: int) -> None:
        for _ in range(num):
            # by the same name it is the same job, if the engine has it
            name = self._unsure or f"{self._prefix}{secrets.token_hex(3)}"
            try:
                token = await self._join_token()
                environment = {"LAB_JOIN_TOKEN": token} if token else {}
                self._unsure = name
                await self._engine.submit(name, self._command(name), environment)
            except (EngineError, StoreError) as error:
                self._fail(str(error))
                return
            self._unsure = ""
            self._asked[name] = self._clock()
            _log.info("asked for an agent", agent=name, engine=self.settings.engine)
        self._problem = ""

    def _command(self, name: str) -> list[str]:
        settings = self.settings
        return [
            *(settings.command, "join", self._server, "--name", name, "--pool", settings.name),
            *("--slots", settings.slots, "--ephemeral"),
            *(("--allow-uploads",) if settings.allow_uploads else ()),
            *settings.arguments,
        ]

    def _note_away(self, problem: str) -> None:
        if problem != self._away:
            _log.error("an engine does not answer", pool=self.settings.name, reason=problem)
        self._away = problem

    def _fail(self, problem: str) -> None:
        """Note a problem, and try again later, and later each time."""
        if problem != self._problem:
            _log.error("a pool cannot start an agent", pool=self.settings.name, reason=problem)
        self._problem = problem
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S) or _FIRST_PAUSE_S
        self._next_try = self._clock() + self._pause_s
