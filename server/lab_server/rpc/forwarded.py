"""The handlers as the HTTP port calls them: on a server that follows, the leader answers what only it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory

from lab_server.errors import Unavailable
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.forwarding import ANSWERED_WITHOUT_LEADER, PATIENCE_S, Forwarding


class ForwardedHandlers:
    """Has the RPCs of some handlers, each answered by them or by the leader, whoever it is at the time.

    gRPC's calls are forwarded before they come to the handlers; those of the HTTP port come here.

    Args:
        handlers: of this server.
        service: the full name of the RPCs' service.
        forwarding: to the leader.
    """

    def __init__(self, handlers: object, service: str, forwarding: Forwarding) -> None:
        self._handlers: Final = handlers
        self._forwarding: Final = forwarding
        self._service: Final = service
        self._methods: Final = descriptor_pool.Default().FindServiceByName(service).methods_by_name

    def __getattr__(self, name: str) -> Any:
        """Return what the handlers have of this name, which is forwarded if it is an RPC."""
        here = getattr(self._handlers, name)
        known = self._methods.get(name)
        if known is None:
            return here
        method = f"/{self._service}/{name}"
        parse = message_factory.GetMessageClass(known.output_type).FromString

        async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            is_here = not self._forwarding.leader_for(method)
            answers = here(request, context) if is_here else self._ask(method, request)
            async with aclosing(answers) as messages:
                async for message in messages:
                    yield message

        async def call(request: Any, context: Any) -> Any:
            if not self._forwarding.leader_for(method):
                return await here(request, context)
            has_fallback = method == ANSWERED_WITHOUT_LEADER
            try:
                async with asyncio.timeout(PATIENCE_S if has_fallback else None):
                    async with aclosing(self._ask(method, request)) as answers:
                        return parse(await anext(answers))
            except (Unavailable, TimeoutError):
                if not has_fallback:
                    raise
                return await here(request, context)

        return stream if known.server_streaming else call

    def _ask(self, method: str, request: Any) -> Any:
        return self._forwarding.ask(method, request.SerializeToString(), auth.credentials())
