"""The usual grpc_server_* series, for all four kinds of RPC, with the code of each call."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from lab_server.rpc.calls.interceptors import Call, Context

# Otherwise each counter gets a second series with its creation time.
disable_created_metrics()  # type: ignore[no-untyped-call]

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_LABELS = ("grpc_service", "grpc_method")


class RpcMetrics:
    """Counts calls and their seconds; the outermost CallMiddleware."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "grpc_server_started_total", "Calls started.", _LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled_total",
            "Calls completed, by status code.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Duration of calls; of a stream, the time it was open.",
            _LABELS,
            registry=registry,
        )

    async def __call__(self, method: str, proceed: Call, request: Any, context: Context) -> Any:
        """Count a call."""
        service, _, name = method.lstrip("/").rpartition("/")
        begin = time.perf_counter()
        self._started.labels(service, name).inc()
        code = grpc.StatusCode.UNKNOWN.name
        try:
            response = await proceed(request, context)
        except asyncio.CancelledError:
            remaining = context.time_remaining()
            is_late = remaining is not None and remaining <= 0
            code = "DEADLINE_EXCEEDED" if is_late else "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = _NAMES.get(_number(context.code()), code)
            raise
        else:
            code = _NAMES.get(_number(context.code()), code)
            return response
        finally:
            self._handled.labels(service, name, code).inc()
            self._seconds.labels(service, name).observe(time.perf_counter() - begin)


def _number(code: object) -> int:
    """Return the number of a code, which grpc hands out in several forms; none was set for OK."""
    if code is None:
        return 0
    return code.value[0] if isinstance(code, grpc.StatusCode) else int(code)  # type: ignore[call-overload]
