"""Calls that only the leader can answer, forwarded to it by the servers that follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import descriptor_pool

from lab_server.errors import Unavailable
from lab_server.rpc.calls.handlers import PEER_SERVICE_NAME, SERVICE_NAME
from lab_server.rpc.calls.interceptors import Call, Context
from lab_server.rpc.calls.status import error_of, is_away

READ_HERE: Final = frozenset(
    {
        "GetRun",
        "ListRuns",
        "WatchRun",
        "WatchMetrics",
        "QueryMetrics",
        "QueryMedia",
        "OpenDashboard",
    }
)
"""The RPCs that any server can answer, from the store alone or about itself."""

ANSWERED_WITHOUT_LEADER: Final = f"/{SERVICE_NAME}/GetServerInfo"
"""Is answered here, without the slots, when the leader does not answer: clients ask it before they read."""

PATIENCE_S: Final = 2.0
"""How long the leader may take for such a call."""

# health, reflection, and what is asked of this very server
_LOCAL_SERVICES: Final = ("/grpc.", f"/{PEER_SERVICE_NAME}/")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_NO_ANSWER: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_FORWARDED_HEADERS: Final = ("authorization",)


class Forwarding:
    """A middleware: passes calls on to the leader, as the bytes that they are.

    Args:
        leader: returns the leader's address; empty where this server leads.
        credentials: for the connection; None for one without TLS.
        keepalive_s: seconds between pings, so that calls end when the leader's host is gone.
    """

    def __init__(
        self,
        leader: Callable[[], str],
        credentials: grpc.ChannelCredentials | None = None,
        keepalive_s: float = 20.0,
    ) -> None:
        self._leader = leader
        self._options = (*_OPTIONS, ("grpc.keepalive_time_ms", round(keepalive_s * 1000)))
        self._credentials = credentials
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    async def __call__(self, method: str, proceed: Call, request: Any, context: Context) -> Any:
        """See CallMiddleware."""
        leader = self.leader_for(method)
        if not leader:
            return await proceed(request, context)
        timeout_s = context.time_remaining()
        has_fallback = method == ANSWERED_WITHOUT_LEADER
        messages: list[bytes] = [message async for message in request] if has_fallback else []
        to_send: Any = messages if has_fallback else request
        call: Any = (await self._to(leader)).stream_stream(method)(
            to_send,
            timeout=min(PATIENCE_S, timeout_s or PATIENCE_S) if has_fallback else timeout_s,
            metadata=[
                (key, value)
                for key, value in context.invocation_metadata() or ()
                if key in _FORWARDED_HEADERS
            ],
        )
        try:
            return await _relay(call, context, is_stream=_is_stream(method))
        except asyncio.CancelledError as error:
            if _is_asked_to_end():
                raise
            raise _no_leader(leader) from error  # the connection was closed: another server leads
        except grpc.aio.AioRpcError as error:
            if has_fallback and error.code() in _NO_ANSWER and not error.trailing_metadata():
                return await proceed(_one_by_one(messages), context)
            if is_away(error):
                raise _no_leader(leader) from error
            context.set_trailing_metadata(error.trailing_metadata() or ())
            await context.abort(error.code(), error.details() or "")
        finally:
            call.cancel()

    def leader_for(self, method: str) -> str:
        """Return the address of the server that a call is for; empty for this one."""
        name = method.removeprefix(f"/{SERVICE_NAME}/")
        if name in READ_HERE or method.startswith(_LOCAL_SERVICES):
            return ""
        return self._leader()

    async def ask(self, method: str, request: bytes, authorization: str) -> AsyncIterator[bytes]:
        """Yield the answers of the leader to a request that came here by HTTP.

        Raises:
            LabError: What the leader answered, or that it does not.
        """
        leader = self.leader_for(method)
        metadata = [("authorization", authorization)] if authorization else []
        ask: Any = (await self._to(leader)).unary_stream(method)
        call: Any = ask(request, metadata=metadata)
        try:
            async for answer in call:
                yield answer
        except asyncio.CancelledError as error:
            if _is_asked_to_end():
                raise
            raise _no_leader(leader) from error
        except grpc.aio.AioRpcError as error:
            if is_away(error):
                raise _no_leader(leader) from error
            raise error_of(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _to(self, leader: str) -> grpc.aio.Channel:
        if self._channel is not None and leader == self._address:
            return self._channel
        before = self._channel
        channel = self._channel = (
            grpc.aio.insecure_channel(leader, self._options)
            if self._credentials is None
            else grpc.aio.secure_channel(leader, self._credentials, self._options)
        )
        self._address = leader
        if before is not None:
            await before.close()
        return channel


def _is_asked_to_end() -> bool:
    """Whether a CancelledError is this task's own: gRPC raises one, too, when a channel is closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _no_leader(leader: str) -> Unavailable:
    return Unavailable(
        f"the server {leader}, which runs the trainings, does not answer; another one takes over within"
        " seconds, try again"
    )


async def _one_by_one(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def _relay(call: AsyncIterator[bytes], context: Context, *, is_stream: bool) -> bytes | None:
    """Return the one answer of a unary call, or write those of a stream as they come."""
    answer = None
    async for answer in call:
        if is_stream:
            await context.write(answer)
    return None if is_stream else answer


def _is_stream(method: str) -> bool:
    """Return whether a method such as "/package.Service/Method" has a stream of answers."""
    name = method.lstrip("/").replace("/", ".")
    return bool(descriptor_pool.Default().FindMethodByName(name).server_streaming)
