"""The server's end of the forkserver: starts it, has it fork generations, and starts it again should it die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from lab_server.errors import Unavailable
from lab_server.model.generation import GenerationSpec
from lab_server.processes.file_limit import limit_of_children
from lab_server.processes.lineage import MARKER, MARKER_LENGTH
from lab_server.processes.patience import seen

_log = structlog.get_logger("lab_server.forkserver")

_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0

_ENVIRONMENT = {
    # Sets of strings iterate in the same order in every attempt of a run.
    "PYTHONHASHSEED": "0",
    # Asked whether there is a GPU, CUDA would be initialised, and no fork could use it.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # OpenBLAS starts its threads when numpy is imported; a trainer gets its own number.
    "OPENBLAS_NUM_THREADS": "1",
    # The room in which a trainer writes who it is.
    MARKER: "-" * MARKER_LENGTH,
}


class ForkServerClient:
    """Keeps a forkserver alive. All its state belongs to the event loop's thread.

    Args:
        preload: modules that it imports; None for its own list.
        libraries: modules that it imports, too.
        environment: variables that it gets beside its own.
        on_exit: called with pid and wait status when a trainer has ended whose generation has, too.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] | None = None,
        libraries: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        on_exit: Callable[[int, int], None] = lambda _pid, _status: None,
    ) -> None:
        self._arguments = [] if preload is None else ["--preload", ",".join(preload)]
        self._arguments += [argument for name in libraries for argument in ("--library", name)]
        self._environment = {**os.environ, **(environment or {}), **_ENVIRONMENT}
        self._on_exit = on_exit
        self._socket, self._process = self._spawn()
        self._keeper: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()  # guards the order of what is written to the socket
        self._is_closed = False

    @property
    def pid(self) -> int:
        """The forkserver's process id."""
        return self._process.pid

    async def open(self, spec: GenerationSpec) -> socket.socket:
        """Have a generation forked; return the server's end of its socket.

        The generation may die at once, or never be forked: the socket is closed then.

        Raises:
            Unavailable: If this client is closed.
        """
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="forkserver")
        line = json.dumps({"op": "open", "spec": spec.to_json()}).encode() + b"\n"
        while not self._is_closed:
            ours, theirs = await seen(socket.socketpair)
            with theirs:
                try:
                    async with self._sending:
                        await self._send(line, theirs)
                except OSError:  # it died, and the next one is not there yet
                    ours.close()
                else:
                    return ours
            await asyncio.sleep(_BACKOFF_S)
        raise Unavailable("the server stops")

    async def close(self) -> None:
        """End the forkserver and all generations; trainers go on."""
        self._is_closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._socket.close()
        # It may be in the middle of its imports, and would look at its socket only after them.
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.to_thread(self._process.wait)

    async def _send(self, line: bytes, theirs: socket.socket) -> None:
        sent = socket.send_fds(self._socket, [line], [theirs.fileno()])
        if sent < len(line):
            await asyncio.get_running_loop().sock_sendall(self._socket, line[sent:])

    async def _keep(self) -> None:
        num_deaths = 0
        while True:
            if await self._read_to_end():
                num_deaths = 0
            returncode = await asyncio.to_thread(self._process.wait)
            num_deaths += 1
            _log.warning("the forkserver exited; starting another", status=returncode)
            await asyncio.sleep(min(_BACKOFF_S * 2**num_deaths, _MAX_BACKOFF_S))
            self._socket.close()
            self._socket, self._process = await seen(self._spawn)

    async def _read_to_end(self) -> bool:
        """Read what it says until it ends; return whether it said anything."""
        loop, pending, has_spoken = asyncio.get_running_loop(), b"", False
        while True:
            try:
                data = await loop.sock_recv(self._socket, 1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return has_spoken
            has_spoken = True
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                self._receive(json.loads(line))

    def _receive(self, message: dict[str, Any]) -> None:
        if "exit" in message:
            self._on_exit(message["exit"], message["status"])
        else:
            log_line(message)

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            command = [sys.executable, "-m", "lab_server.trainer.forkserver"]
            command += ["--fd", str(theirs.fileno()), "--server-pid", str(os.getpid())]
            command += ["--file-limit", str(limit_of_children()), *self._arguments]
            process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                # what it prints is for the log, and must not be mistaken for the ready line
                stdout=sys.__stderr__,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is the server's alone
            )
        return ours, process


def log_line(message: dict[str, Any]) -> None:
    """Write a line that a forked process has for the log; one process writes it, in one format."""
    event, level = message.pop("log"), message.pop("level")
    getattr(_log, level)(event, **message)
