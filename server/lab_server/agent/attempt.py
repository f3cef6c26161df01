"""One attempt on an agent: fetched, trained, shipped, and kept until the server lets go of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from lab_server.agent.commands import Commands
from lab_server.agent.files import DISK_ERRORS, RunFiles
from lab_server.agent.home import AgentHome
from lab_server.agent.link import Link, Refused
from lab_server.agent.spool import Shipper, complete
from lab_server.agent.trainer import HeldTrainer
from lab_server.agent.uploads import AgentUploads
from lab_server.descriptors import is_shortage
from lab_server.errors import DamagedFile, LaunchError
from lab_server.executors.protocol import Executor
from lab_server.model.agent import AttemptKey, Beat, Ended, FromAgent, Launched
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import num_threads_each
from lab_server.processes.patience import patiently, seen
from lab_server.processes.pid_file import read_pid_file

_log = structlog.get_logger("lab_agent")

_RETRY_S = 1.0
_UPLOAD_POLL_S = 0.5


class HeldAttempt:
    """An attempt that the server gave to this agent. The agent's loop owns it.

    Args:
        spec: as the server sent it, or as it was held.
        tell: says something to the server, if it is in reach.
        prepare: is awaited before the attempt begins, None for one that was held.
    """

    def __init__(
        self,
        home: AgentHome,
        executor: Executor,
        link: Link,
        uploads: AgentUploads,
        spec: LaunchSpec,
        tell: Callable[[FromAgent], None],
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.key = AttemptKey(spec.run_id, spec.attempt)
        self.slot = spec.slot
        self._home = home
        self._executor = executor
        self._link = link
        self._uploads = uploads
        self._tell_now = tell
        self._folder = home.folder(spec)
        self._spec = self._local(spec)
        self._shipper = Shipper(link, self.key, self._folder)
        self._files = RunFiles(link, self.key, self._folder)
        self._trainer = HeldTrainer(executor)
        self._commands = Commands(self._folder, spec.attempt)
        self._prepare = prepare
        self._cause = ""
        self._beat = 0
        self._launched: Launched | None = None
        self._ended: Ended | None = None
        self._again: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run(), name=str(self.key))

    @property
    def process(self) -> TrainerProcess | None:
        """Its trainer, None before it is known."""
        return self._trainer.process

    # ---- what the server asks

    def report(self) -> None:
        """Tell the server again what it may not have heard; it may also have lost the end of a file."""
        if self._launched is not None:
            self._tell_now(self._launched)
        if self._ended is not None and self._ended.is_complete:
            self._again = asyncio.create_task(self._ship_again(self._ended))
        elif self._ended is not None:
            self._tell_now(self._ended)

    def upload_anew(self) -> None:
        """Take the server to have none of the files: it is one with another home."""
        self._files.forget()

    def command(self, line: str) -> None:
        """Add a line to the control file, unless it is there, as soon as the disk takes it."""
        self._commands.add(line)

    def end(self, grace_s: float, cause: str = "") -> None:
        """End the trainer by SIGTERM, after grace_s by SIGKILL; the first cause is told."""
        self._cause = self._cause or cause
        self._trainer.end(grace_s)

    async def until_told(self) -> None:
        """Return when the attempt has ended and all of it is shipped."""
        await asyncio.wait((self._task,))

    async def release(self) -> None:
        """End the trainer, if there is one, and forget the attempt with its files."""
        tasks = [task for task in (self._task, self._again) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._commands.drop()
        await self._trainer.release()
        await asyncio.to_thread(self._home.release, self._spec)

    def close(self) -> None:
        """Let go of the attempt; its trainer goes on, and the next agent of this home takes it over."""
        self._task.cancel()
        self._commands.drop()

    def beat(self, usage: tuple[float, int] | None) -> Beat | None:
        """Return what to tell about a trainer that runs."""
        if self.process is None or usage is None:
            return None
        try:
            beat = self._folder.heartbeat(self.key.attempt).stat().st_mtime_ns
        except OSError:
            beat = 0
        has_progressed, self._beat = beat != self._beat, beat
        return Beat(self.key, has_progressed, *usage)

    # ---- its way

    async def _run(self) -> None:
        try:
            if self._prepare is not None:
                await self._prepare()
        except OSError as error:
            self._tell(Launched(self.key, None, f"its agent cannot write: {error.strerror}"))
            return
        self._commands.open()
        try:
            # again, where there was no file descriptor for something: all that it has done is done
            await patiently(self._follow)
        except Exception as error:
            await self._give_up(error)

    async def _give_up(self, error: Exception) -> None:
        if isinstance(error, Refused) and await self._link.is_over(self.key):
            # the server says on its stream what is to become of it
            _log.warning("the server takes no more of it", attempt=str(self.key), reason=str(error))
            return
        _log.error("lost an attempt", attempt=str(self.key), exc_info=error)
        await self._trainer.until_gone()
        self._tell(Ended(self.key, f"its agent failed: {error}", 0, is_complete=False))

    async def _follow(self) -> None:
        pid_file = self._folder.pid_file(self.key.attempt)
        if not pid_file.exists():
            self._folder.make()
            try:
                self._tell(Launched(self.key, await self._launch()))
            except (DamagedFile, LaunchError, OSError) as error:
                if is_shortage(error):
                    raise
                self._tell(Launched(self.key, None, str(error)))
                return
        else:
            found = await self._trainer.find(self._folder, self.key.attempt)
            began = found or await seen(lambda: read_pid_file(pid_file))
            if began is not None:
                self._tell(Launched(self.key, began))
        shipping = asyncio.create_task(self._shipper.run())
        uploading = asyncio.create_task(self._upload_checkpoints())
        try:
            if self.process is not None:
                cause = await self._trainer.until_ended((shipping, uploading))
            else:
                cause = "it ended while no agent watched it"
            await self._complete()
            self._shipper.finish()
            spool_bytes = await shipping
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
            await self._files.upload_last()
        finally:
            shipping.cancel()
            uploading.cancel()
            await asyncio.gather(shipping, uploading, return_exceptions=True)
        self._tell(Ended(self.key, self._cause or cause, spool_bytes))

    async def _launch(self) -> TrainerProcess:
        if self._spec.upload is not None:
            await self._uploads.get(self.key, self._spec.upload, self._folder.path)
        await self._files.fetch()
        if self._cause:
            raise LaunchError(self._cause)
        return await self._trainer.launch(self._spec)

    async def _upload_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(_UPLOAD_POLL_S)
            try:
                if await asyncio.to_thread(lambda: self._files.has_new_checkpoint):
                    await self._files.upload()
            except DISK_ERRORS as error:  # also a file that went while it was read
                _log.warning(
                    "cannot upload a checkpoint; trying again",
                    attempt=str(self.key),
                    reason=str(error),
                )
                await asyncio.sleep(_RETRY_S)

    async def _complete(self) -> None:
        while True:
            try:
                await asyncio.to_thread(complete, self._folder, self.key.attempt)
            except OSError as error:
                _log.error("no room for a run's last metrics; trying again", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _tell(self, told: Launched | Ended) -> None:
        if isinstance(told, Launched):
            self._launched = told
        else:
            self._ended = told
        self._tell_now(told)

    async def _ship_again(self, ended: Ended) -> None:
        try:
            shipper = Shipper(self._link, self.key, self._folder)
            shipper.finish()
            await shipper.run()
            await self._files.upload_last()
        except Exception as error:
            await self._give_up(error)
        else:
            self._tell_now(ended)

    def _local(self, spec: LaunchSpec) -> LaunchSpec:
        """Return the spec with what is this machine's own."""
        return replace(
            spec,
            folder=self._folder.path,
            parent_folder=self._folder.parent if spec.parent_folder else None,
            num_threads=num_threads_each(len(self._executor.slots)),
            lease=self._home.lease,
            keeper_pid=os.getpid() if self._home.is_ephemeral else 0,
        )
