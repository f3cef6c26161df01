"""The server's end of one generation, for as long as that lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Callable
from typing import Any

import structlog

from lab_server.errors import LaunchError
from lab_server.executors.forkserver_client import log_line

_log = structlog.get_logger("lab_server.forkserver")

_MAX_LINE_BYTES = 64 << 20


class GenerationDied(Exception):
    """The generation ended without an answer."""


class GenerationClient:
    """Sends requests to a generation and matches answers to them.

    Args:
        connection: to the generation.
        on_exit: called with pid and wait status when a trainer that it forked has ended.
    """

    def __init__(self, connection: socket.socket, on_exit: Callable[[int, int], None]) -> None:
        self._on_exit = on_exit
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._is_retired = False
        self._is_connected = asyncio.Event()
        self._reader = asyncio.create_task(self._read(connection), name="generation")

    @property
    def is_alive(self) -> bool:
        """Whether it may still answer."""
        return not self._reader.done()

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            LaunchError: If the generation says that it failed.
            GenerationDied: If it ended before it answered.
        """
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._is_connected.wait()
            if self._writer is None or not self.is_alive:
                raise GenerationDied
            self._writer.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
            result = await answer
        finally:
            del self._waiting[number]
            self._end_if_unused()
        if "error" in result:
            raise LaunchError(result["error"])
        return result

    def retire(self) -> None:
        """Let it end as soon as it has answered all that it was asked."""
        self._is_retired = True
        self._end_if_unused()

    async def close(self) -> None:
        """Let it end now."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    def _end_if_unused(self) -> None:
        if self._is_retired and not self._waiting:
            self._reader.cancel()

    async def _read(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(
                sock=connection, limit=_MAX_LINE_BYTES
            )
            self._writer = writer
            self._is_connected.set()
            while line := await reader.readline():
                self._receive(json.loads(line))
        except (ConnectionError, ValueError) as error:
            _log.warning("lost the connection to a generation", error=str(error))
        finally:
            self._is_connected.set()
            connection.close() if self._writer is None else self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(GenerationDied())

    def _receive(self, message: dict[str, Any]) -> None:
        if "exit" in message:
            self._on_exit(message["exit"], message["status"])
        elif "log" in message:
            log_line(message)
        else:
            answer = self._waiting.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
