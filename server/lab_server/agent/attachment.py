"""The agent's stream: to one server after the other, kept up by pings, which renew the lease."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import grpc.aio
import structlog

from lab_server.agent.kept_lease import KeptLease
from lab_server.agent.link import Link, Tls, is_asked_to_end, open_channel, refusal, stub_of
from lab_server.agent.servers import Servers
from lab_server.files.lease import now_s
from lab_server.messages.agents import request_to_proto, response_from_proto
from lab_server.model.agent import FromAgent, Hello, Ping, ToAgent, Welcome

_log = structlog.get_logger("lab_agent")

_PING_RATIO = 0.1
_MAX_PING_S = 10.0
_PAUSE_S = 0.2
_MAX_PAUSE_S = 5.0
_PATIENCE_S = 30.0  # for an answer to a ping, before the stream is taken for dead


class Attachment:
    """Attached, or about to be. The agent's loop owns it.

    Args:
        link: lets calls go to the server while the agent is attached.
        servers: tried in turn.
        lease: is renewed.
        hello: returns what the agent has, for each server anew.
        receive: takes what a server says, the welcome first.

    Attributes:
        attached: set once a server has taken the agent.
    """

    def __init__(
        self,
        link: Link,
        servers: Servers,
        tls: Tls | None,
        lease: KeptLease,
        hello: Callable[[], Hello],
        receive: Callable[[ToAgent], None],
    ) -> None:
        self._link = link
        self._servers = servers
        self._tls = tls
        self._lease = lease
        self._hello = hello
        self._receive = receive
        self._outgoing: asyncio.Queue[FromAgent] | None = None
        self._pings: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self.attached = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether a server has taken the agent, and is in reach."""
        return self._outgoing is not None

    def tell(self, told: FromAgent) -> None:
        """Say something to the server, if it is in reach."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(told)

    async def stay(self) -> None:
        """Attach again and again until cancelled.

        Raises:
            Refused: If a server refuses the agent before any has taken it.
        """
        pause_s = _PAUSE_S
        async for address in self._addresses():
            try:
                await self._attach(address)
                pause_s = _PAUSE_S
            except grpc.aio.AioRpcError as error:
                refused = refusal(error)
                if refused is not None and not self.attached.is_set():
                    raise refused from None
                # one that was attached is kept: its trainers go on, and the refusal may pass
                what = "no server" if refused is None else "the server refuses this agent"
                _log.warning(what, server=address, reason=error.details())
                pause_s = _PAUSE_S if self.is_up else min(2 * pause_s, _MAX_PAUSE_S)
            finally:
                self._link.detached()
                self._outgoing = None
            await asyncio.sleep(pause_s)

    async def _addresses(self) -> AsyncIterator[str]:
        """Yield the servers' addresses in turn, as they are known then."""
        while True:
            addresses = self._servers.addresses()
            if not addresses:
                await asyncio.sleep(_PAUSE_S)
            for address in addresses:
                yield address

    async def _attach(self, address: str) -> None:
        outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()
        hello_s = now_s()
        outgoing.put_nowait(self._hello())
        self._pings.clear()
        async with open_channel(address, self._tls) as channel:
            stub = stub_of(channel)
            stream = stub.Attach(_requests(outgoing), metadata=self._link.metadata)
            pinging = asyncio.create_task(self._ping(outgoing, stream))
            try:
                async for message in stream:
                    said = response_from_proto(message)
                    if isinstance(said, Welcome):
                        self._outgoing = outgoing
                        self._lease.begin(hello_s, said.lease_s)
                        self._receive(said)
                        self._link.attached(stub)
                        _log.info("attached", server=address, held=len(said.held))
                        self.attached.set()
                    elif isinstance(said, Ping):
                        self._note_answer(said.number)
                    elif said is not None:
                        self._receive(said)
            except asyncio.CancelledError:
                if is_asked_to_end():
                    raise
                _log.warning("the server is silent", server=address, for_s=_PATIENCE_S)
            finally:
                pinging.cancel()

    async def _ping(self, outgoing: asyncio.Queue[FromAgent], stream: grpc.aio.Call) -> None:
        while True:
            oldest_s = next(iter(self._pings.values()), None)
            if oldest_s is not None and now_s() - oldest_s > _PATIENCE_S:
                stream.cancel()
                return
            number = next(self._numbers)
            self._pings[number] = now_s()
            outgoing.put_nowait(Ping(number))
            length_s = self._lease.length_s
            await asyncio.sleep(min(_MAX_PING_S, length_s * _PING_RATIO if length_s else 1.0))

    def _note_answer(self, number: int) -> None:
        sent_s = self._pings.pop(number, None)
        if sent_s is not None:
            self._lease.renew(sent_s)


async def _requests(outgoing: asyncio.Queue[FromAgent]) -> AsyncIterator[object]:
    while True:
        told = await outgoing.get()
        yield request_to_proto(told)
        outgoing.task_done()
