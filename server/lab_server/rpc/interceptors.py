"""Middleware around every call, for all four kinds of RPC, and errors as statuses."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

import grpc
import grpc.aio
import structlog

from lab_core.errors import LabError, Violation
from lab_server.errors import InvalidRequest
from lab_server.rpc.status import status_of

_log = structlog.get_logger("lab_server.rpc")

# grpc's own stubs are generic over messages of which an interceptor knows nothing.
Handler = Any
Context = Any


class CallMiddleware(Protocol):
    """Code that runs before and after a call of any kind."""

    def __call__(self, method: str, context: Context) -> AbstractAsyncContextManager[None]:
        """Return the context in which to call a method, such as "/package.Service/Method"."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Runs every call inside of a CallMiddleware."""

    def __init__(self, middleware: CallMiddleware) -> None:
        self._middleware = middleware

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, wrapped in the middleware."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return wrap(handler, handler_call_details.method, self._middleware)


class ParseInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests inside of the middleware, so that a bad one gets a status; grpc answers UNKNOWN."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, which now takes bytes."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _parse_inside(handler)


def wrap(handler: Handler, method: str, middleware: CallMiddleware) -> Handler:
    """Return a handler that runs inside of the middleware's context."""
    behavior = _behavior(handler)

    async def call(request: Any, context: Context) -> Any:
        async with middleware(method, context):
            return await _run(behavior, request, context)

    return _like(handler, call, handler.request_deserializer)


@contextlib.asynccontextmanager
async def errors_as_statuses(method: str, context: Context) -> AsyncIterator[None]:
    """Answer an error with its status; log those that no caller should be able to cause."""
    try:
        yield
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except grpc.aio.InternalError as error:
        # what a read or write raises when the client ended the call before grpc cancelled this task
        raise asyncio.CancelledError from error
    except Exception as error:
        status = status_of(error) if isinstance(error, LabError) else None
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


def _parse_inside(handler: Handler) -> Handler:
    behavior, parse = _behavior(handler), handler.request_deserializer

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            # Protobuf's DecodeError, or whatever else a deserializer raises.
            raise InvalidRequest(
                [Violation("", "the request is not a valid message of its type")]
            ) from None

    async def each(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in requests:
            yield parsed(data)

    async def first(requests: AsyncIterator[bytes]) -> Any:
        async for data in requests:
            return parsed(data)
        raise InvalidRequest([Violation("", "the request has no message")])

    async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
        message = each(requests) if handler.request_streaming else await first(requests)
        return await _run(behavior, message, context)

    # every request as a stream: a unary call without a message is never answered by grpc
    return _like(handler, call, None, is_request_streaming=True)


async def _run(behavior: Callable[..., Any], request: Any, context: Context) -> Any:
    """Call a behaviour; what a generator yields is written to the context."""
    result = behavior(request, context)
    if inspect.isawaitable(result):
        return await result
    async with aclosing(result):
        async for response in result:
            await context.write(response)
    return None


def _behavior(handler: Handler) -> Any:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def _like(
    handler: Handler,
    behavior: Callable[..., Any],
    parse: Callable[..., Any] | None,
    *,
    is_request_streaming: bool | None = None,
) -> Handler:
    """Return a handler of the same kind, or one that takes a stream of requests."""
    if is_request_streaming is None:
        is_request_streaming = handler.request_streaming
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[is_request_streaming, handler.response_streaming]
    return make(
        behavior, request_deserializer=parse, response_serializer=handler.response_serializer
    )
