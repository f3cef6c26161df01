"""grpc.health.v1: NOT_SERVING until the catalogue is loaded, and while the server drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2, health_pb2_grpc

from lab_server.errors import NotFound
from lab_server.rpc.calls.handlers import SERVICE_NAME
from lab_server.rpc.calls.interceptors import Context

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no stubs
    """The state of the server as a whole ("") and of its one service, which are the same.

    Not grpc's own servicer: there a watcher that leaves can end the updates of the others.
    """

    def __init__(self) -> None:
        self._is_serving = False
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        """True while new runs are taken."""
        return self._is_serving

    def set_serving(self, is_serving: bool) -> None:
        """Set the state and notify watchers; ignored after `end`."""
        if self._is_over or is_serving == self._is_serving:
            return
        self._is_serving = is_serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        """Become NOT_SERVING for good and end the watchers' streams."""
        self.set_serving(False)
        self._is_over = True
        self._changed.set()

    # N802: the names are those of the RPCs
    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Return the state of a service."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise NotFound("service", request.service[:200])
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Yield the state of a service, now and after each change."""
        while True:
            changed, is_over = self._changed, self._is_over
            yield health_pb2.HealthCheckResponse(status=self._status(request.service))
            if is_over:
                return
            await changed.wait()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in ("", SERVICE_NAME):
            return _UNKNOWN
        return _SERVING if self._is_serving else _NOT_SERVING
