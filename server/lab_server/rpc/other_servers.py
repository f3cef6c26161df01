"""The other servers of the store: a connection to each, by which it is asked for what is in its home."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from lab_rpc.v1 import peer_service_pb2_grpc
from lab_server.errors import Unavailable
from lab_server.rpc.calls.status import error_of, is_away
from lab_server.security.host_tokens import HostTokens
from lab_server.store.databases.members import Member

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

Metadata = Sequence[tuple[str, str]]


class OtherServers:
    """Calls the PeerService of other servers.

    Args:
        members: returns the servers of the store.
        tokens: by which this server proves that it is one of them.
        credentials: for the connections; None for ones without TLS.
    """

    def __init__(
        self,
        members: Callable[[], Awaitable[Sequence[Member]]],
        tokens: HostTokens,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        self.members = members
        self._tokens = tokens
        self._credentials = credentials

    @contextlib.asynccontextmanager
    async def stub(self, member: Member, what: str) -> AsyncIterator[tuple[Any, Metadata]]:
        """Give the calls of a server, and the metadata that they need; its errors become ours.

        Args:
            member: the server.
            what: is wanted of it, for the error: "the files of run X".

        Raises:
            Unavailable: If it is away.
        """
        channel = (
            grpc.aio.insecure_channel(member.address, _OPTIONS)
            if self._credentials is None
            else grpc.aio.secure_channel(member.address, self._credentials, _OPTIONS)
        )
        async with channel:
            try:
                yield peer_service_pb2_grpc.PeerServiceStub(channel), self._proof()
            except grpc.aio.AioRpcError as error:
                if is_away(error):
                    raise away(what, [member]) from error
                raise error_of(error) from error

    def _proof(self) -> Metadata:
        return (("authorization", f"Bearer {self._tokens.new()}"),)


def away(what: str, members: Sequence[Member], home: str = "") -> Unavailable:
    """Return the error for what only a server has that is away.

    Args:
        what: "the files of run X".
        members: who may have it, as far as that is known.
        home: where it is.
    """
    addresses = " or ".join(member.address for member in members)
    where = f"the server {addresses}" if members else f"a server with the home {home}"
    return Unavailable(
        f"{what} are on {where}, which is away: start it again; with one LAB_HOME for all servers,"
        " each has all files"
    )
