"""What surrounds every call: one shape for all four kinds of RPC, and errors as statuses."""

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


class Around(Protocol):
    """Runs code before and after a call, whatever its kind."""

    def __call__(self, method: str, context: Context) -> AbstractAsyncContextManager[None]:
        """Return what to enter around the call of a method, "/package.Service/Method"."""


class AroundInterceptor(grpc.aio.ServerInterceptor):
    """Puts one Around around every call."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, surrounded."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return surround(handler, handler_call_details.method, self._around)


class ParseInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests where an error of theirs has a status; grpc itself would answer UNKNOWN."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, which takes bytes now."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _parse_inside(handler)


def surround(handler: Handler, method: str, around: Around) -> Handler:
    """Return a handler that runs inside of what `around` gives."""
    behavior = _behavior(handler)

    async def call(request: Any, context: Context) -> Any:
        async with around(method, context):
            return await _run(behavior, request, context)

    return _like(handler, call, handler.request_deserializer)


@contextlib.asynccontextmanager
async def errors_as_statuses(method: str, context: Context) -> AsyncIterator[None]:
    """Answer an error with its status; log what no caller should be able to cause."""
    try:
        yield
    except LabError as error:
        status = status_of(error)
        if status is None:
            _log.exception("unexpected error", method=method)
            await context.abort(grpc.StatusCode.INTERNAL, _internal())
        else:
            await context.abort(
                status.code, status.message, (("grpc-status-details-bin", status.details),)
            )
    except (grpc.aio.AbortError, asyncio.CancelledError):
        raise
    except Exception:
        _log.exception("unexpected error", method=method)
        await context.abort(grpc.StatusCode.INTERNAL, _internal())


def _internal() -> str:
    request = structlog.contextvars.get_contextvars().get("request", "")
    return f"internal error in request {request}; the server's log has more"


def _parse_inside(handler: Handler) -> Handler:
    behavior, parse = _behavior(handler), handler.request_deserializer

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            # Protobuf's DecodeError, or what else a deserializer makes of garbage.
            raise InvalidRequest(
                [Violation("", "the request is not the message expected")]
            ) from None

    async def each(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in requests:
            yield parsed(data)

    async def call(request: Any, context: Context) -> Any:
        message = each(request) if handler.request_streaming else parsed(request)
        return await _run(behavior, message, context)

    return _like(handler, call, None)


async def _run(behavior: Callable[..., Any], request: Any, context: Context) -> Any:
    """Run a behaviour of either style; what a generator yields is written to the context."""
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
    handler: Handler, behavior: Callable[..., Any], parse: Callable[..., Any] | None
) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(
        behavior, request_deserializer=parse, response_serializer=handler.response_serializer
    )
