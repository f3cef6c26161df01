"""The trainer of an attempt on an agent: started or found, waited for, and ended with all that it left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog

from lab_server.errors import LaunchError
from lab_server.executors.protocol import Executor
from lab_server.files.run_folder import RunFolder
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess

_log = structlog.get_logger("lab_agent")

_RETRY_S = 1.0


class HeldTrainer:
    """At most one process, with its children. The agent's loop owns it.

    Attributes:
        process: the trainer, once it is known.
    """

    def __init__(self, executor: Executor) -> None:
        self.process: TrainerProcess | None = None
        self._executor = executor
        self._grace_s: float | None = None
        self._launching: asyncio.Task[TrainerProcess] | None = None
        self._killing: asyncio.Task[None] | None = None

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start it; one that was to end while it began is ended then.

        Raises:
            LaunchError: If it cannot be started.
        """
        self._launching = asyncio.create_task(self._executor.launch(spec))
        self.process = await asyncio.shield(self._launching)
        if self._grace_s is not None:
            self.end(self._grace_s)
        return self.process

    async def find(self, folder: RunFolder, attempt: int) -> TrainerProcess | None:
        """Return the one that an earlier agent started, None if no process of it is left."""
        self.process = await self._executor.inspect(folder.path, attempt)
        return self.process

    def end(self, grace_s: float) -> None:
        """End it by SIGTERM, after grace_s by SIGKILL; one that begins, as soon as it has begun."""
        self._grace_s = grace_s
        if self.process is not None:
            killing = self._executor.kill(self.process, grace_s=grace_s)
            self._killing = asyncio.create_task(killing)

    async def until_ended(self, sending: Iterable[asyncio.Task[Any]]) -> str:
        """Return how it ended, in words, when no process of it is left.

        Args:
            sending: tasks that ship what it writes, and do not end before it unless they fail.

        Raises:
            Exception: What one of those raised.
        """
        assert self.process is not None
        ended = asyncio.ensure_future(self._executor.wait(self.process))
        try:
            await asyncio.wait((ended, *sending), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                for task in sending:
                    if task.done():
                        task.result()  # raises: the server takes no more of it
            cause = await ended
        finally:
            ended.cancel()
        await self.until_gone()
        return cause or "it exited without reporting an outcome"

    async def until_gone(self) -> None:
        """Kill what is left of it: a slot is free only when no process is."""
        while self.process is not None:
            try:
                if self._killing is not None:
                    killing, self._killing = self._killing, None
                    await killing
                await self._executor.kill(self.process, grace_s=0)
            except (LaunchError, OSError) as error:
                _log.error("cannot end a trainer; trying again", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def release(self) -> None:
        """End it at once, also one that only begins."""
        if self._launching is not None:  # it is to be known before it can be ended
            await asyncio.wait((self._launching,))
            if self._launching.exception() is None:
                self.process = self._launching.result()
        await self.until_gone()
