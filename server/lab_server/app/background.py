"""What a server does beside answering calls; each function is a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec

import structlog

from lab_core.errors import LabError
from lab_server.errors import StoreError
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.remote.registry import Agents
from lab_server.files.uploads import UploadStore
from lab_server.http.exporter import Exporter
from lab_server.model.run import Run
from lab_server.processes import memory
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.health import Health
from lab_server.security.tls import Certificates
from lab_server.settings.settings import Settings
from lab_server.store import SqlStore, Store
from lab_server.supervisor import Supervisor
from lab_server.supervisor.retention import Retention
from lab_server.watch.hub import Hub

if TYPE_CHECKING:
    from lab_server.http.server import Http
    from lab_server.rpc.site_parts import SiteParts

_log = structlog.get_logger("lab_server")

P = ParamSpec("P")

_RESTART_S = 60.0
_RETENTION_INTERVAL_S = 600.0
_SERVERS_INTERVAL_S = 1.0
_MEMORY_INTERVAL_S = 5.0
_CROWD = 50
_END_S = 5.0


class Tasks:
    """Holds what a server does, and ends it on exit."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, *works: Coroutine[Any, Any, None]) -> None:
        """Begin to do some works, each by itself."""
        for work in works:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_S)


async def keep_up(
    work: Callable[P, Awaitable[None]], *arguments: P.args, **named: P.kwargs
) -> None:
    """Do some work to its end; when a mistake ends it before, log that, and begin again a minute later."""
    while True:
        try:
            await work(*arguments, **named)
        except Exception:
            _log.exception(
                "a task of the server failed; beginning it again", task=work.__qualname__
            )
            await asyncio.sleep(_RESTART_S)
        else:
            return


async def serve_http(
    listening: socket.socket,
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    parts: SiteParts,
    *,
    exporter: Exporter,
    is_ready: Callable[[], bool],
    certificates: Certificates | None,
) -> None:
    """Start the HTTP server, and let the stack close it."""
    # aiohttp takes a quarter of the start's time; connections wait in the socket meanwhile.
    server, site = [
        await asyncio.to_thread(importlib.import_module, f"lab_server.http.{name}")
        for name in ("server", "site")
    ]
    is_local = settings.http_address.is_loopback
    http: Http = server.Http(
        exporter,
        is_ready,
        handshake_s=settings.handshake_s,
        certificates=None if is_local else certificates,
        tokens=None if is_local else parts.tokens,
        max_body_bytes=settings.max_message_bytes,
        add_site=site.Site(settings, parts).add_to if settings.dashboard else None,
    )
    stack.push_async_callback(http.close)
    await http.start(listening)


async def load_catalogue(catalogue: Catalogue, health: Health, devices: Devices) -> None:
    """Load the experiments, report SERVING, then load the GPU driver's library."""
    await catalogue.load()
    health.set_serving(catalogue.is_loaded)
    await asyncio.to_thread(devices.open)


async def give_back_memory(limits: Limits, hub: Hub) -> None:
    """Give memory back after a crowd of streams has ended: thousands of small pieces keep many pages.

    What was cached meanwhile goes, too: it lies between the pieces.
    """
    num_ended = 0
    while True:
        await asyncio.sleep(_MEMORY_INTERVAL_S)
        if limits.num_ended - num_ended < _CROWD:
            continue
        num_ended = limits.num_ended
        hub.drop_caches()
        gc.collect()
        await asyncio.to_thread(memory.trim)


async def retain(
    retention: Retention, store: Store, supervisor: Supervisor, is_needed: Callable[[Run], bool]
) -> None:
    """Delete expired runs that are not needed every ten minutes, if any are ever to be deleted."""
    while retention.is_on:
        try:
            deleted = await retention.apply(store, supervisor.delete, time.time_ns(), is_needed)
        except LabError as error:
            _log.error("old runs could not be deleted", error=str(error))
        else:
            if deleted:
                _log.info("deleted old runs", runs=deleted)
        await asyncio.sleep(_RETENTION_INTERVAL_S)


async def prune_uploads(uploads: UploadStore) -> None:
    """Remove code that clients sent and no run uses, every ten minutes."""
    while True:
        removed = await asyncio.to_thread(uploads.prune)
        if removed:
            _log.info("removed code that no run uses", uploads=removed)
        await asyncio.sleep(_RETENTION_INTERVAL_S)


async def tell_servers(store: SqlStore, agents: Agents) -> None:
    """Tell the agents where the servers of the store are, so that they find the next one to lead."""
    with contextlib.suppress(StoreError):
        members = await store.members()
        agents.tell_servers([member.address for member in members if member.is_live])


async def keep_telling_servers(store: SqlStore, agents: Agents) -> None:
    """Tell the agents each second which servers came and went."""
    while True:
        await tell_servers(store, agents)
        await asyncio.sleep(_SERVERS_INTERVAL_S)
