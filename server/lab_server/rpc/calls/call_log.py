"""One debug line per call, and the request id on every other line of the call."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any

import grpc.aio
import structlog

from lab_server.rpc.calls.interceptors import Call, Context

_log = structlog.get_logger("lab_server.call")

# Request ids that clients may set; anything else gets a random id.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


async def log_calls(method: str, proceed: Call, request: Any, context: Context) -> Any:
    """A CallMiddleware that binds the request id to the call's log lines and logs its end at debug."""
    structlog.contextvars.bind_contextvars(
        request=_request_id(context), method=method.rpartition("/")[2]
    )
    begin = time.perf_counter()
    outcome = "error"
    try:
        response = await proceed(request, context)
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    except grpc.aio.AbortError:
        outcome = context.details()
        raise
    else:
        outcome = "ok"
        return response
    finally:
        seconds = round(time.perf_counter() - begin, 4)
        _log.debug("call", outcome=outcome, seconds=seconds, peer=context.peer())


def _request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(4)
