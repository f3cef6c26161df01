"""A server's own slots where several servers share a store: an agent on its host, a process of its own.

It is started detached, or found running, and goes on when the server dies. A server that stops has it end as soon
as it holds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

import grpc.aio
import structlog

from lab_core.errors import SettingsError
from lab_server.agent import orders
from lab_server.agent.host import HostFolder, HostOptions
from lab_server.files.home import Home
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot
from lab_server.processes import proc
from lab_server.processes.file_limit import limit_of_children
from lab_server.processes.patience import seen
from lab_server.settings.settings import Settings

_log = structlog.get_logger("lab_server.agents")

_READY_S: Final = 60.0
_LEAVE_S: Final = 15.0
_STOP_S: Final = 60.0  # beyond the grace of its trainers, in which they are shipped
_IDLE_S: Final = 5.0
_LOOK_S: Final = 1.0
_POLL_S: Final = 0.02
_MAX_BACKOFF_S: Final = 60.0
_LOG_BYTES: Final = 10 << 20


class OwnSlots:
    """Keeps the agent of this host running while the server does.

    Args:
        settings: of the server.
        slots: that the agent is to have; without any there is no agent.
        new_token: makes a token by which the agent can join.

    Raises:
        SettingsError: If the agent's folder cannot be made.
    """

    def __init__(
        self, settings: Settings, slots: Sequence[Slot], new_token: Callable[[], str]
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._new_token = new_token
        self._home_id = Home(settings.home).server_id()
        self._folder = HostFolder(settings.home)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begin = 0
        if not slots:
            return
        try:
            self._folder.make()
        except OSError as error:
            raise SettingsError(f"cannot make {self._folder.path}: {error.strerror}") from None

    def listen(self, server: grpc.aio.Server) -> None:
        """Let the agent reach the server by a socket file, whatever its address and certificate.

        The folder is this user's alone, and the agent proves itself as all agents do.
        """
        if not self._slots:
            return
        # not by the path itself, of which a socket takes 107 bytes
        folder = os.open(self._folder.sockets, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        server.add_insecure_port(f"unix:/proc/self/fd/{folder}/{os.getpid()}.sock")

    async def start(self) -> None:
        """Find the agent, or start it, and return when it is attached.

        Raises:
            SettingsError: If it cannot be started.
        """
        if not self._slots:
            return
        options = self._options()
        running = await seen(self._folder.running)
        if running is not None and await seen(self._folder.started_with) == options.fingerprint():
            _log.info("found the agent of the own slots", pid=running.pid)
            return
        if running is not None:
            _log.info("replacing the agent of the own slots; its trainers go on", pid=running.pid)
            await self._end(running, orders.LEAVE_SIGNAL, _LEAVE_S)
        await self._start(options)

    async def watch(self) -> None:
        """Start the agent again whenever it has ended."""
        pause_s = _LOOK_S
        while self._slots:
            await asyncio.sleep(pause_s)
            if self._process is not None:
                self._process.poll()  # else it stays a zombie
            if await seen(self._folder.running) is not None:
                pause_s = _LOOK_S
                continue
            _log.warning("the agent of the own slots ended; starting another")
            try:
                await self.start()
            except SettingsError as error:
                pause_s = min(2 * pause_s, _MAX_BACKOFF_S)
                _log.error("cannot start the agent of the own slots", reason=str(error))

    async def reload(self) -> None:
        """Have the agent import its experiments anew."""
        running = await seen(self._folder.running) if self._slots else None
        if running is not None:
            await _signal(running, orders.RELOAD_SIGNAL)

    async def end(self, *, stop_trainers: bool) -> None:
        """Have the agent end: with its trainers, or as soon as they have ended.

        It stays as it is where another server of the home uses it.
        """
        running = await seen(self._folder.running) if self._slots else None
        others = await seen(lambda: self._folder.other_servers) if running is not None else []
        if running is None or others:
            return
        if stop_trainers:
            await self._end(running, orders.STOP_SIGNAL, self._settings.grace_s + _STOP_S)
        elif await seen(lambda: self._folder.is_idle):
            await self._end(running, orders.RETIRE_SIGNAL, _IDLE_S)
        else:
            await _signal(running, orders.RETIRE_SIGNAL)

    # ---- steps

    def _options(self) -> HostOptions:
        settings = self._settings
        files = [settings.peer_ca, settings.tls_cert, settings.tls_key]
        return HostOptions(
            home=str(self._folder.path),
            home_id=self._home_id,
            token=self._new_token(),
            slots=[[slot.name, slot.device] for slot in self._slots],
            experiments=list(settings.experiments),
            libraries=list(settings.preload),
            allow_uploads=settings.allow_uploads,
            auto_reload=settings.auto_reload,
            thread_wait=settings.thread_wait,
            tls_files=[str(file or "") for file in files] if settings.tls_cert else [],
            grace_s=settings.grace_s,
            log_format=settings.log_format,
            log_level=settings.log_level,
            file_limit=limit_of_children(),
        )

    async def _start(self, options: HostOptions) -> None:
        try:
            process = self._process = await asyncio.to_thread(self._spawn, options)
        except OSError as error:
            raise SettingsError(f"cannot start the agent of the own slots: {error}") from None
        assert process.stdout is not None
        ready = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
        done, _ = await asyncio.wait((ready,), timeout=_READY_S)
        if not done:
            _log.warning(
                "the agent of the own slots is not attached yet", log=str(self._folder.log)
            )
        elif not ready.result():
            await asyncio.to_thread(process.wait)
            # else another server of the home was faster
            if await seen(self._folder.running) is None:
                raise SettingsError(f"the agent of the own slots ended: {self._last_words()}")
        else:
            _log.info("started the agent of the own slots", pid=process.pid)

    def _spawn(self, options: HostOptions) -> subprocess.Popen[bytes]:
        log = self._folder.log
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as errors:
            self._log_begin = errors.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "lab_server.cli.agent", "host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C in a terminal, and the terminal's end, are the server's alone
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(options.to_json()).encode())
        return process

    def _last_words(self) -> str:
        with self._folder.log.open("rb") as log:
            log.seek(self._log_begin)
            lines = log.read().decode(errors="replace").strip().splitlines()
        said = [line for line in lines if line.startswith("lab-agent: ")]
        told = said[-1].removeprefix("lab-agent: ") if said else "\n".join(lines[-5:])
        return f"{told or 'it said nothing'}; its log is {self._folder.log}"

    async def _end(
        self, process: TrainerProcess, number: signal.Signals, patience_s: float
    ) -> None:
        await _signal(process, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while await seen(lambda: proc.is_alive(process)):  # noqa: ASYNC110 - another process sets no Event
                    await asyncio.sleep(_POLL_S)
                return
        if number is orders.LEAVE_SIGNAL:
            _log.warning("the agent of the own slots does not end; killing it", pid=process.pid)
            await _signal(process, signal.SIGKILL)


async def _signal(process: TrainerProcess, number: signal.Signals) -> None:
    found = await seen(lambda: proc.find(process))
    if found is not None:
        await seen(lambda: proc.send_signal(found, number))
