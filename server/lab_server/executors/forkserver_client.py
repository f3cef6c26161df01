"""The server's end of the forkserver: starts it, asks it, and starts it again should it die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from lab_server.errors import LaunchError, Unavailable
from lab_server.processes.lineage import MARKER, MARKER_LENGTH

_log = structlog.get_logger("lab_server.forkserver")

_MAX_LINE_BYTES = 64 << 20
_MAX_DEATHS = 5  # in a row, without one answer between them
_BACKOFF_S = 0.1

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
    """Sends requests and matches answers to them. All its state belongs to the event loop's thread.

    Args:
        experiments: modules and files to import, beside those of entry points.
        preload: modules to import first; None for the forkserver's own list.
        environment: variables that the forkserver gets beside its own.
        on_exit: called with pid and wait status when a trainer that it forked has ended.
    """

    def __init__(
        self,
        experiments: Sequence[str] = (),
        *,
        preload: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        on_exit: Callable[[int, int], None] = lambda _pid, _status: None,
    ) -> None:
        self._arguments = [argument for e in experiments for argument in ("--experiments", e)]
        if preload is not None:
            self._arguments += ["--preload", ",".join(preload)]
        self._environment = {**os.environ, **(environment or {}), **_ENVIRONMENT}
        self._on_exit = on_exit
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[bytes, asyncio.Future[dict[str, Any]]]] = {}
        self._socket, self._process = self._spawn()
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._num_deaths = 0
        self._is_closed = False

    @property
    def pid(self) -> int:
        """The forkserver's process id."""
        return self._process.pid

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer; asked again of the next forkserver if this one dies.

        Raises:
            LaunchError: If the forkserver says that it failed, or does not stay alive.
            Unavailable: If this client is closed, or closes meanwhile.
        """
        if self._is_closed:
            raise Unavailable("the server stops")
        if self._reader_task is None:
            self._reader_task = asyncio.create_task(self._read(), name="forkserver")
        number = next(self._ids)
        line = json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = line, answer
        try:
            if self._writer is not None:
                self._writer.write(line)
            result = await answer
        finally:
            self._waiting.pop(number, None)
        if "error" in result:
            raise LaunchError(result["error"])
        return result

    async def close(self) -> None:
        """End the forkserver; trainers go on."""
        self._is_closed = True
        if self._reader_task is not None:
            self._reader_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader_task
        if self._writer is not None:
            self._writer.close()
        self._socket.close()
        self._fail(Unavailable("the server stops"))
        # It may be in the middle of its imports, and would look at its socket only after them.
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await asyncio.to_thread(self._process.wait)

    async def _read(self) -> None:
        while True:
            await self._read_to_end()
            returncode = await asyncio.to_thread(self._process.wait)
            self._num_deaths += 1
            _log.warning("the forkserver exited; starting another", status=returncode)
            if self._num_deaths >= _MAX_DEATHS:
                self._fail(
                    LaunchError(
                        f"the forkserver exited {self._num_deaths} times, last with status {returncode}; "
                        "see the server's error output"
                    )
                )
            await asyncio.sleep(min(_BACKOFF_S * 2**self._num_deaths, 5.0))
            self._socket.close()
            self._socket, self._process = self._spawn()

    async def _read_to_end(self) -> None:
        reader, writer = await asyncio.open_unix_connection(
            sock=self._socket, limit=_MAX_LINE_BYTES
        )
        self._writer = writer
        for line, _ in self._waiting.values():
            writer.write(line)
        try:
            while line := await reader.readline():
                self._num_deaths = 0
                self._receive(json.loads(line))
        except (ConnectionError, ValueError) as error:
            _log.warning("lost the connection to the forkserver", error=str(error))
        finally:
            self._writer = None
            writer.close()

    def _receive(self, message: dict[str, Any]) -> None:
        if "exit" in message:
            self._on_exit(message["exit"], message["status"])
            return
        if "log" in message:
            # one process writes the log, in one format; a forkserver with handlers would fork them
            event, level = message.pop("log"), message.pop("level")
            getattr(_log, level)(event, **message)
            return
        _, answer = self._waiting.get(message["id"], (b"", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _fail(self, error: Exception) -> None:
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "lab_server.trainer.forkserver"]
            command += ["--fd", str(theirs.fileno()), "--server-pid", str(os.getpid())]
            command += self._arguments
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
