"""The blocking shell: carries out operations and reads streams on a gRPC channel.

A channel belongs to the process that opened it: after a fork the child opens its own. The lock
guards the channel and its bound calls; streams have no shared state but those.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc

from lab_client.errors import InvalidRequest, InvalidState, LabError, Unavailable
from lab_client.protocol import operations
from lab_client.protocol.calls import CallSequence, Operation, sendable
from lab_client.protocol.download import Download
from lab_client.protocol.pages import Pages
from lab_client.protocol.retry import Attempts, Reconnect, Timeouts
from lab_client.protocol.status import is_transport, to_error
from lab_client.protocol.streams import Resumable
from lab_client.runs import ServerInfo
from lab_client.sync.pump import ForkInterrupt, IdleTimeout, Pump
from lab_client.transport import channel, forks
from lab_client.transport.rotation import Rotation
from lab_client.transport.target import Target
from lab_client.transport.version import check_version

T = TypeVar("T")
_CLOSE_S = 3.0


class SyncShell:
    """Carries out operations and reads streams, blocking.

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
        self._forget_channel()

    def _forget_channel(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._calls: dict[tuple[str, str], Any] = {}
        self._is_checked = False

    def close(self) -> None:
        """Close the connection; open streams end with an error."""
        self._is_closed = True
        if self._pid != os.getpid():
            return
        for opened in self._channels.values():
            # Bounded: interrupted in the wrong line of a call, gRPC never ends closing its channel.
            closing = threading.Thread(target=opened.close, name="lab-close", daemon=True)
            closing.start()
            closing.join(_CLOSE_S)

    def _bound(self, server: Target, rpc: str) -> Any:
        if self._pid != os.getpid():
            self._forget_channel()  # forked: the parent's channel and lock are not ours
        if self._is_closed:
            raise InvalidState("this client is closed; make another one")
        with self._lock:
            call = self._calls.get((server.address, rpc))
            if call is None:
                opened = self._channels.get(server.address)
                if opened is None:
                    opened = self._channels[server.address] = channel.open_channel(server)
                call = self._calls[server.address, rpc] = channel.bind(opened, rpc)
            return call

    def _note_failure(self, server: Target) -> None:
        with self._lock:
            self._servers.note_failure(server)

    def check_server(self, timeout_s: float | None = None) -> ServerInfo:
        """Ask for the server's version and check that this client can talk to it."""
        info = self._unary(operations.server_info(), timeout_s)
        check_version(info.version, self.address)
        self._is_checked = True
        return info

    def _check_once(self) -> None:
        if not self._is_checked or self._pid != os.getpid():
            self.check_server()

    def call(self, operation: Operation[T]) -> T:
        """Carry out one call and return what its answer says."""
        self._check_once()
        return self._unary(operation)

    def _unary(self, operation: Operation[T], timeout_s: float | None = None) -> T:
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
                with forks.call():
                    response = self._bound(server, operation.rpc)(
                        operation.to_send(), timeout=attempts.timeout_s(), metadata=self._metadata
                    )
            except grpc.RpcError as error:
                problem = to_error(error, operation.rpc, self.address)
            except ValueError:  # grpc's way to say that the channel was closed by another thread
                raise InvalidState("this client was closed during a call") from None
            else:
                return operation.parse(response)
            delay_s = attempts.delay_before_retry(problem)
            self._note_failure(server)
            time.sleep(delay_s)

    def call_all(self, calls: CallSequence[T]) -> T:
        """Carry out calls that need each other's answers and return what they make."""
        try:
            operation = next(calls)
            while True:
                try:
                    answer = self.call(operation)
                except LabError as error:
                    operation = calls.throw(error)  # it may have another way
                else:
                    operation = calls.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def items(self, pages: Pages[T]) -> Iterator[T]:
        """Yield what a list has, page by page."""
        while not pages.is_over:
            yield from pages.take(self.call(pages.next_call()))

    def read(  # noqa: C901  # one loop: a part of it alone could not be understood
        self,
        stream: Resumable[T],
        timeout_s: float | None = None,
        on_no_answer: Callable[[float], None] | None = None,
    ) -> Iterator[T]:
        """Yield what the stream has, through any number of reconnects."""
        reconnect = Reconnect(stream.what, self._timeouts, timeout_s, time.monotonic, on_no_answer)
        self._check_once()
        while True:
            problem: LabError | None = None
            server = self._servers.current
            call, request = self._bound(server, stream.rpc), sendable(stream.request)
            open_call = partial(
                call, request, timeout=reconnect.call_timeout_s(), metadata=self._metadata
            )
            try:
                with Pump(open_call, self._timeouts.idle_timeout_s) as pump:
                    for response in pump.responses():
                        reconnect.progressed()
                        yield from stream.receive(response)
                        if stream.is_enough:
                            return
                        reconnect.progressed()  # the caller's own time is not the server's silence
            except grpc.RpcError as error:
                if self._is_closed:
                    raise InvalidState("this client was closed during a call") from None
                problem = to_error(error, stream.rpc, self.address)
                if not is_transport(error):
                    raise problem from None
            except ValueError as error:  # grpc's way to say that the channel was closed meanwhile
                if not self._is_closed:
                    raise
                raise InvalidState("this client was closed during a call") from error
            except ForkInterrupt:
                continue
            except IdleTimeout:
                problem = Unavailable("the server is silent")
            if stream.is_complete:
                return
            reconnect.call_timeout_s()
            self._note_failure(server)
            time.sleep(reconnect.delay_before_reconnect(problem))

    def download(self, download: Download) -> Path:
        """Carry out a download and return the file that was written."""
        with download:
            while not download.is_done:
                try:
                    for _ in self.read(download):
                        pass
                except InvalidRequest as error:  # the file is shorter than what an old try left
                    download.restart(error)
                else:
                    download.finish()
        return download.target
