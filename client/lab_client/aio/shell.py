"""The asyncio shell: carries out operations and reads streams on a gRPC channel.

A client belongs to the event loop in which it made its first call; it has no lock because nothing
of it is touched from elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from lab_client.errors import InvalidRequest, InvalidState, LabError, Unavailable
from lab_client.protocol import operations
from lab_client.protocol.calls import CallSequence, Operation, sendable
from lab_client.protocol.download import Download
from lab_client.protocol.pages import Pages
from lab_client.protocol.retry import Attempts, Reconnect, Timeouts
from lab_client.protocol.status import is_transport, to_error
from lab_client.protocol.streams import Resumable
from lab_client.runs import ServerInfo
from lab_client.transport import channel
from lab_client.transport.rotation import Rotation
from lab_client.transport.target import Target
from lab_client.transport.version import check_version

T = TypeVar("T")


class AsyncShell:
    """Carries out operations and reads streams, in asyncio.

    Args:
        target: the server, or several of one store.
        timeouts: how long to wait.

    Attributes:
        address: the server's, HOST:PORT, or several with commas between.
    """

    def __init__(self, target: Target, timeouts: Timeouts) -> None:
        self.address = target.address
        self._servers = Rotation(target)
        self._timeouts = timeouts.among(len(self._servers))
        self._metadata = channel.metadata(target)
        self._is_closed = False
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: dict[tuple[str, str], Any] = {}
        self._is_checked = False

    async def close(self) -> None:
        """Close the connection; open streams end with an error."""
        self._is_closed = True
        for opened in self._channels.values():
            await opened.close(None)

    def _bound(self, server: Target, rpc: str) -> Any:
        if self._pid != os.getpid():
            raise InvalidState(
                "an AsyncClient does not survive a fork, as its event loop does not; "
                "make a new one in the child, or use Client"
            )
        if self._is_closed:
            raise InvalidState("this client is closed; make another one")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise InvalidState("this client belongs to another event loop; make one in each")
        self._loop = loop
        call = self._calls.get((server.address, rpc))
        if call is None:
            opened = self._channels.get(server.address)
            if opened is None:
                opened = self._channels[server.address] = channel.open_aio_channel(server)
            call = self._calls[server.address, rpc] = channel.bind(opened, rpc)
        return call

    async def check_server(self, timeout_s: float | None = None) -> ServerInfo:
        """Ask for the server's version and check that this client can talk to it."""
        info = await self._unary(operations.server_info(), timeout_s)
        check_version(info.version, self.address)
        self._is_checked = True
        return info

    async def _check_once(self) -> None:
        if not self._is_checked:
            await self.check_server()

    async def call(self, operation: Operation[T]) -> T:
        """Carry out one call and return what its answer says."""
        await self._check_once()
        return await self._unary(operation)

    async def _unary(self, operation: Operation[T], timeout_s: float | None = None) -> T:
        limits = self._timeouts
        attempts = Attempts(
            operation.is_safe,
            limits.timeout_s if timeout_s is None else timeout_s,
            limits.retry_timeout_s if timeout_s is None else timeout_s,
            time.monotonic,
            limits.try_s,
        )
        while True:
            server = self._servers.current
            try:
                with self._closing_as_error():
                    response = await self._bound(server, operation.rpc)(
                        operation.to_send(), timeout=attempts.timeout_s(), metadata=self._metadata
                    )
            except grpc.RpcError as error:
                problem = to_error(error, operation.rpc, self.address)
            except grpc.aio.UsageError:  # grpc's way to say that the channel was closed meanwhile
                raise InvalidState("this client was closed during a call") from None
            else:
                return operation.parse(response)
            delay_s = attempts.delay_before_retry(problem)
            self._servers.note_failure(server)
            await asyncio.sleep(delay_s)

    async def call_all(self, calls: CallSequence[T]) -> T:
        """Carry out calls that need each other's answers and return what they make."""
        try:
            operation = next(calls)
            while True:
                try:
                    answer = await self.call(operation)
                except LabError as error:
                    operation = calls.throw(error)  # it may have another way
                else:
                    operation = calls.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def items(self, pages: Pages[T]) -> AsyncIterator[T]:
        """Yield what a list has, page by page."""
        while not pages.is_over:
            for item in pages.take(await self.call(pages.next_call())):
                yield item

    async def read(
        self,
        stream: Resumable[T],
        timeout_s: float | None = None,
        on_no_answer: Callable[[float], None] | None = None,
    ) -> AsyncIterator[T]:
        """Yield what the stream has, through any number of reconnects."""
        reconnect = Reconnect(stream.what, self._timeouts, timeout_s, time.monotonic, on_no_answer)
        await self._check_once()
        while True:
            problem: LabError | None = None
            server = self._servers.current
            call = self._open(server, stream, reconnect.call_timeout_s())
            try:
                while (response := await self._next(call)) is not grpc.aio.EOF:
                    reconnect.progressed()
                    for item in stream.receive(response):
                        yield item
                    if stream.is_enough:
                        return
                    reconnect.progressed()  # the caller's own time is not the server's silence
            except grpc.RpcError as error:
                if self._is_closed:
                    raise InvalidState("this client was closed during a call") from None
                problem = to_error(error, stream.rpc, self.address)
                if not is_transport(error):
                    raise problem from None
            except TimeoutError:
                problem = Unavailable("the server is silent")
            finally:
                call.cancel()
            if stream.is_complete:
                return
            reconnect.call_timeout_s()
            self._servers.note_failure(server)
            await asyncio.sleep(reconnect.delay_before_reconnect(problem))

    async def download(self, download: Download) -> Path:
        """Carry out a download and return the file that was written."""
        with download:
            while not download.is_done:
                try:
                    async for _ in self.read(download):
                        pass
                except InvalidRequest as error:  # the file is shorter than what an old try left
                    download.restart(error)
                else:
                    download.finish()
        return download.target

    async def _next(self, call: Any) -> Any:
        with self._closing_as_error():
            async with asyncio.timeout(self._timeouts.idle_timeout_s):
                return await call.read()

    @contextmanager
    def _closing_as_error(self) -> Iterator[None]:
        """Turn gRPC's way to end the calls of a closed channel into an error of ours."""
        try:
            yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and not (task and task.cancelling()):
                raise InvalidState("this client was closed during a call") from None
            raise  # the caller was cancelled

    def _open(self, server: Target, stream: Resumable[Any], timeout_s: float) -> Any:
        try:
            return self._bound(server, stream.rpc)(
                sendable(stream.request), timeout=timeout_s, metadata=self._metadata
            )
        except grpc.aio.UsageError:
            raise InvalidState("this client was closed during a call") from None
