"""How an agent is told to end: by signals, and by having been forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

import structlog

T = TypeVar("T")

How = Literal["stop", "leave", "retire"]
"""What becomes of the trainers: they save and end; they go on, for the next agent of the home; or they go on,
and the agent stays until they have ended."""

RELOAD_SIGNAL = signal.SIGUSR1
RETIRE_SIGNAL = signal.SIGUSR2
STOP_SIGNAL = signal.SIGINT
LEAVE_SIGNAL = signal.SIGTERM
"""What a server sends to the agent of its own slots."""

_log = structlog.get_logger("lab_agent")

_LOOK_S = 0.5
_FORGOTTEN_S = 60.0


class Ending(Protocol):
    """What of an agent is needed to end it."""

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing."""

    @property
    def is_attached(self) -> bool:
        """Whether a server is in reach."""

    async def retire(self) -> None:
        """Take no new runs, and return when there are none left."""

    async def leave(self, grace_s: float) -> None:
        """Have the trainers save and exit, and ship all that they wrote."""


class Orders:
    """What an agent was told.

    Args:
        how: what becomes of the trainers, unless a signal says it.

    Attributes:
        to_end: set when the agent is to end.
        on_reload: called when it is to import its experiments anew.
    """

    def __init__(self, how: How) -> None:
        self.how: How = how
        self.to_end = asyncio.Event()
        self.on_reload: Callable[[], None] = lambda: None

    def listen(self, *, is_host: bool) -> None:
        """Take signals: those of a terminal or an engine, or those of a server for its own slots."""
        add = asyncio.get_running_loop().add_signal_handler
        if not is_host:
            for number in (signal.SIGTERM, signal.SIGINT):
                add(number, self.to_end.set)
            if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
                add(signal.SIGHUP, self.to_end.set)
            return
        add(STOP_SIGNAL, self._end, "stop")
        add(LEAVE_SIGNAL, self._end, "leave")
        add(RETIRE_SIGNAL, self._end, "retire")
        add(RELOAD_SIGNAL, lambda: self.on_reload())

    async def unless_told_to_end(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what comes of work, None if the agent is told to end meanwhile."""
        working, told = asyncio.create_task(work), asyncio.create_task(self.to_end.wait())
        try:
            await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            for task in (working, told):
                task.cancel()
            await asyncio.gather(working, told, return_exceptions=True)

    async def end_with(self, parent_pid: int) -> None:
        """End when the engine's process that started the agent has: nobody else would tell it to."""
        while os.getppid() == parent_pid:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(_LOOK_S)
        _log.error("the process that started this agent is gone; ending with it", pid=parent_pid)
        self.to_end.set()

    async def carry_out(self, agent: Ending, grace_s: float) -> None:
        """End as told; whoever tells it again need not wait."""
        while self.how != "leave":
            self.to_end.clear()
            how = self.how
            ending = agent.leave(grace_s) if how == "stop" else agent.retire()
            tasks = [asyncio.create_task(ending), asyncio.create_task(self.to_end.wait())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            if tasks[0].done() or self.how == how:
                return

    def _end(self, how: How) -> None:
        self.how = how
        self.to_end.set()


async def until_forgotten(agent: Ending) -> None:
    """Return when an agent has held nothing, and reached no server, for a minute."""
    since = time.monotonic()
    while time.monotonic() - since < _FORGOTTEN_S:
        await asyncio.sleep(1.0)
        if agent.is_attached or not agent.is_idle:
            since = time.monotonic()
