"""An attempt that an agent runs, as the server knows it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from lab_server.descriptors import is_shortage
from lab_server.errors import LaunchError
from lab_server.executors.protocol import Usage
from lab_server.executors.remote.mirror import Mirror
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey, Beat, Ended, Kill, Launch, Launched
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.processes.pid_file import read_pid_file, write_pid_file

_RETRY_S = 1.0


class RemoteAttempt:
    """What is known of one attempt. The registry's event loop owns it.

    Attributes:
        key: the attempt.
        agent: the name of the agent that has it.
        folder: of the run, on the server: events and files arrive there.
        process: the trainer, once the agent has told of it.
        usage: what its processes use, as last told.
        launched: the trainer, or why there is none.
        ended: how it ended, once all it wrote is here, or the agent is given up.
        is_lost: it was given up: not all that it wrote is here.
    """

    def __init__(self, key: AttemptKey, agent: str, folder: RunFolder) -> None:
        self.key = key
        self.agent = agent
        self.folder = folder
        self.usage: Usage | None = None
        self.is_lost = False
        self.process = read_pid_file(folder.pid_file(key.attempt))
        loop = asyncio.get_running_loop()
        self.launched: asyncio.Future[TrainerProcess] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._mirror = Mirror(folder.spool(key.attempt))
        self._spec: LaunchSpec | None = None
        self._kill: Kill | None = None
        if self.process is not None:
            self.launched.set_result(self.process)

    def bring_up(self, process: TrainerProcess | None, spool_offset: int) -> None:
        """Take over what the store knows: a server with another home may have begun the attempt.

        Raises:
            OSError: If the disk takes no more.
        """
        self.folder.make()
        self._mirror.extend(spool_offset)
        if self.process is None and process is not None:
            write_pid_file(self.folder.pid_file(self.key.attempt), process)
            self.process = process
            self.launched.set_result(process)

    @property
    def spool_bytes(self) -> int:
        """How much of its spool is here."""
        return self._mirror.size_bytes

    async def until_ended(self) -> str:
        """Return how it ended when it has."""
        return await asyncio.shield(self.ended)

    def pending(self) -> list[Launch | Kill]:
        """Return what the agent was asked for and may not have heard."""
        if self.ended.done():
            return []
        asked: list[Launch | Kill] = []
        if self._spec is not None and not self.launched.done():
            asked.append(Launch(self.key, self._spec, self._spec.slot.rpartition("/")[2]))
        if self._kill is not None:
            asked.append(self._kill)
        return asked

    def launch(self, spec: LaunchSpec) -> None:
        """Note that a trainer is wanted."""
        self._spec = spec

    def kill(self, grace_s: float) -> Kill:
        """Note that the trainer is to be ended; the shortest grace holds."""
        if self._kill is None or grace_s < self._kill.grace_s:
            self._kill = Kill(self.key, grace_s)
        return self._kill

    def note_launched(self, told: Launched) -> None:
        """Record the trainer where any later server finds it, or that there is none."""
        if self.launched.done():
            return
        if told.process is None:
            self.fail(told.error)
            return
        process = TrainerProcess(told.process.pid, told.process.start_ticks, self.agent)
        try:
            write_pid_file(self.folder.pid_file(self.key.attempt), process)
        except OSError as error:
            if is_shortage(error):
                asyncio.get_running_loop().call_later(_RETRY_S, self.note_launched, told)
                return
            self.fail(f"{self.folder.path} cannot be written: {error.strerror}")
            return
        self.process = process
        self.launched.set_result(process)

    def note_beat(self, beat: Beat) -> None:
        """Record progress as a trainer on this machine does."""
        if beat.has_progressed:
            with suppress(OSError):
                self.folder.heartbeat(self.key.attempt).touch()
        self.usage = Usage(beat.cpu_seconds, beat.memory_bytes)

    def note_ended(self, told: Ended) -> bool:
        """Record how it ended, if all of its spool is here; else the agent tells it again.

        One whose agent cannot ship all of it is given up: its outcome does not count.
        """
        if not told.is_complete:
            self.fail(told.cause)
            return True
        if self.spool_bytes < told.spool_bytes:
            return False
        self._end(told.cause)
        return True

    def append(self, offset: int, data: bytes) -> int:
        """Append bytes of its spool and return its new size; see `Mirror.append`."""
        return self._mirror.append(offset, data)

    def fail(self, cause: str) -> None:
        """Give it up: no more will come of it."""
        self.is_lost = self.is_lost or not self.ended.done()
        if not self.launched.done():
            self.launched.set_exception(LaunchError(cause))
            self.launched.exception()  # else asyncio warns when nobody asks
        self._end(cause)

    def _end(self, cause: str) -> None:
        if not self.launched.done():
            self.launched.set_exception(LaunchError(cause))
            self.launched.exception()
        if not self.ended.done():
            self.ended.set_result(cause)
