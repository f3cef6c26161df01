"""Middleware around every call, for all four kinds of RPC, and errors as statuses."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, cast

import grpc
import grpc.aio
import structlog

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest
from lab_server.rpc.calls.status import status_of

_log = structlog.get_logger("lab_server.rpc")

# grpc's own stubs are generic over messages of which an interceptor knows nothing.
Handler = Any
Context = Any
Parse = Callable[[bytes], Any]
Call = Callable[[Any, Context], Awaitable[Any]]


class CallMiddleware(Protocol):
    """Code that runs before and after a call of any kind."""

    def __call__(
        self, method: str, proceed: Call, request: Any, context: Context
    ) -> Awaitable[Any]:
        """Serve a call of a method, such as "/package.Service/Method": await proceed(request, context)."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Runs every call inside of middlewares, the outermost first.

    Requests are parsed there, too, so that a bad one gets a status; grpc answers UNKNOWN.
    """

    def __init__(self, *middlewares: CallMiddleware) -> None:
        self._middlewares = middlewares
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, which takes bytes and runs inside of the middlewares."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(handler, method)
        return wrapped

    def _wrap(self, handler: Handler, method: str) -> Handler:
        call: Call = partial(_serve, handler, _behavior(handler))
        for middleware in reversed(self._middlewares):
            call = partial(middleware, method, call)

        async def outermost(requests: AsyncIterator[bytes], context: Context) -> Any:
            return await call(requests, context)

        # every request as a stream: a unary call without a message is never answered by grpc
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(outermost, response_serializer=partial(_to_bytes, handler.response_serializer))


def _to_bytes(serialize: Callable[[Any], bytes] | None, message: Any) -> bytes:
    """Encode an answer, unless a middleware has given it as it came from another server."""
    return message if serialize is None or isinstance(message, bytes) else serialize(message)


async def errors_as_statuses(method: str, proceed: Call, request: Any, context: Context) -> Any:
    """Answer an error with its status; log those that no caller should be able to cause."""
    try:
        return await proceed(request, context)
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except grpc.aio.InternalError as error:
        # what a read or write raises when the client ended the call before grpc cancelled this task
        raise asyncio.CancelledError from error
    except Exception as error:
        status = status_of(error)
        if status is None:
            _log.exception("unexpected error", method=method)
            await _abort(context, grpc.StatusCode.INTERNAL, _internal())
        else:
            details = (("grpc-status-details-bin", status.details),)
            await _abort(context, status.code, status.message, details)


async def _abort(context: Context, *status: Any) -> None:
    try:
        await context.abort(*status)
    except grpc.aio.InternalError as error:  # the client is gone
        raise asyncio.CancelledError from error


def _internal() -> str:
    request = structlog.contextvars.get_contextvars().get("request", "")
    return f"internal error in request {request}; see the server's log"


async def _serve(
    handler: Handler, behavior: Callable[..., Any], requests: AsyncIterator[bytes], context: Context
) -> Any:
    """Parse what comes, call a behavior, and write what a generator yields to the context."""
    parse = handler.request_deserializer
    if handler.request_streaming:
        request: Any = _each(requests, parse)
    else:
        request = await _first(requests, parse)
    response = behavior(request, context)
    if inspect.isawaitable(response):
        return await response
    async with aclosing(response):
        async for message in response:
            await context.write(message)
    return None


async def _each(requests: AsyncIterator[bytes], parse: Parse) -> AsyncIterator[Any]:
    async for data in requests:
        yield _parsed(data, parse)


async def _first(requests: AsyncIterator[bytes], parse: Parse) -> Any:
    # closed at once: else the call's memory waits for the garbage collector
    async with aclosing(cast(AsyncGenerator[bytes], aiter(requests))) as messages:
        async for data in messages:
            return _parsed(data, parse)
    raise InvalidRequest([Violation("", "the request has no message")])


def _parsed(data: bytes, parse: Parse) -> Any:
    try:
        return parse(data)
    except Exception:
        # Protobuf's DecodeError, or whatever else a deserializer raises.
        raise InvalidRequest(
            [Violation("", "the request is not a valid message of its type")]
        ) from None


def _behavior(handler: Handler) -> Any:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary
