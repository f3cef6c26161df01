"""A service over a real store and hub, with a supervisor that the test drives, on a real port."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
import structlog
from prometheus_client import CollectorRegistry

from lab_rpc.v1 import (
    search_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)
from lab_server import logs
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.remote.registry import Agents
from lab_server.files.home import Home
from lab_server.files.secret import server_secret
from lab_server.files.uploads import UploadStore
from lab_server.http.exporter import Exporter
from lab_server.http.server import Http
from lab_server.http.site import Site
from lab_server.model.run import Run, RunState
from lab_server.rpc.calls.handlers import SEARCH, TRAINING, handlers
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.curves import Curves
from lab_server.rpc.dashboard import DashboardDoor
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.health import Health
from lab_server.rpc.logs import Logs
from lab_server.rpc.paging import Paging
from lab_server.rpc.searches import SearchHandlers
from lab_server.rpc.server import bind, make_server
from lab_server.rpc.site_parts import SiteParts
from lab_server.rpc.streams import Streams
from lab_server.rpc.timeline import Timeline
from lab_server.rpc.unary import Service
from lab_server.rpc.uploads import Uploads
from lab_server.search.searches import Searches
from lab_server.security.sessions import Sessions
from lab_server.security.tls import Certificates
from lab_server.security.tokens import Tokens
from lab_server.settings.address import Address, listen
from lab_server.settings.loading import load
from lab_server.store.sql import SqlStore
from lab_server.watch.hub import Hub
from lab_server.watch.media_index import MediaIndex
from tests.server.fakes import FakeExecutor, FakeSupervisor

pb = training_service_pb2


@dataclass
class Surface:
    """Everything that a test of the surface touches."""

    executor: FakeExecutor
    supervisor: FakeSupervisor
    store: SqlStore
    hub: Hub
    service: Service
    health: Health
    exporter: Exporter
    address: str
    channel: grpc.aio.Channel
    stub: Any
    home: Path
    site: SiteParts
    searches: Searches
    search_stub: Any
    agents: Agents

    async def run(self, state: RunState = RunState.CREATED, **request: Any) -> Run:
        """Return a new run that is in a state."""
        request = {"experiment": "mnist"} | request
        response = await self.stub.CreateRun(pb.CreateRunRequest(**request))
        run = await self.supervisor.get(response.run.id)
        if state is RunState.CREATED:
            return run
        slot = "cpu:0" if state.has_process else ""
        attempt = 0 if state is RunState.QUEUED else 1
        return await self.supervisor.move(run, state, slot=slot, attempt=attempt)

    def folder_of(self, run: Run) -> Path:
        """Return the folder of a run's files, which may not be there."""
        return self.home / "runs" / run.experiment / run.id


@pytest.fixture
async def surface(tmp_path: Path) -> AsyncIterator[Surface]:
    """Serve on a free port, with the interceptors that the real server has."""
    async with open_surface(tmp_path) as it:
        yield it


@asynccontextmanager
async def open_surface(
    tmp_path: Path,
    tokens: Tokens | None = None,
    certificates: Certificates | None = None,
    heartbeat_s: float = 0.05,
    allow_uploads: bool = True,
    **flags: float,
) -> AsyncIterator[Surface]:
    """Serve with or without tokens and TLS; with either, the surface's own stub is let in nowhere."""
    async with AsyncExitStack() as stack:
        executor = FakeExecutor()
        store = SqlStore(f"sqlite:///{tmp_path / 'lab.db'}")
        stack.push_async_callback(store.close)
        hub = Hub(store, heartbeat_s=heartbeat_s, min_pause_s=0)
        supervisor = FakeSupervisor(store, hub, executor)
        catalogue, health = Catalogue(executor), Health()
        registry, devices, agents = CollectorRegistry(), Devices(), Agents(lease_s=30)
        devices.open()
        limits = Limits(max_streams=3, max_runs=2)
        uploads = Uploads(UploadStore(tmp_path / "uploads") if allow_uploads else None, limits)
        files = FilesOfRuns(tmp_path)
        service = Service(
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            paging=Paging(server_secret(tmp_path)),
            limits=limits,
            uploads=uploads,
            gpus=Gpus(devices, agents),
            home=Home(tmp_path),
            files=files,
        )
        streams = Streams(
            supervisor=supervisor,
            store=store,
            hub=hub,
            limits=limits,
            files=files,
        )
        exporter = Exporter(
            registry,
            supervisor=supervisor,
            store=store,
            executor=executor,
            devices=devices,
            home=tmp_path,
        )
        settings = load({"grpc": "127.0.0.1:0", **flags}).settings
        server = make_server(settings, registry, health, tokens)
        searches = Searches(
            store=store.searches,
            runs=supervisor,
            run_store=store,
            catalogue=catalogue,
            hub=hub,
            heartbeat_s=heartbeat_s,
        )
        stack.push_async_callback(searches.shut_down)
        search_service = SearchHandlers(
            searches=searches,
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            limits=limits,
            paging=Paging(server_secret(tmp_path)),
        )
        curves = Curves(supervisor, store, catalogue)
        hub.observe(curves.note)
        sessions = Sessions(server_secret(tmp_path), is_https=False)
        door = DashboardDoor("http://127.0.0.1:8080", sessions, has_tokens=tokens is not None)
        server.add_generic_rpc_handlers(
            (
                handlers(TRAINING, service, streams, uploads, door),
                handlers(SEARCH, search_service),
            )
        )
        address = str(bind(server, settings, certificates))
        await server.start()
        stack.push_async_callback(server.stop, 0)
        stack.callback(hub.close)
        stack.callback(searches.close)
        await catalogue.load()
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        yield Surface(
            executor,
            supervisor,
            store,
            hub,
            service,
            health,
            exporter,
            address,
            channel,
            stub,
            tmp_path,
            SiteParts(
                service=service,
                searches=search_service,
                streams=streams,
                curves=curves,
                logs=Logs(supervisor, files),
                media=MediaIndex(store),
                timeline=Timeline(store),
                home=tmp_path,
                tokens=tokens,
                sessions=sessions,
            ),
            searches,
            search_service_pb2_grpc.SearchServiceStub(channel),
            agents,
        )


@asynccontextmanager
async def open_site(surface: Surface, **flags: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve a surface's API and pages by HTTP, and yield a client of it."""
    settings = load({"http": "127.0.0.1:0", **flags}).settings
    http = Http(
        surface.exporter,
        lambda: surface.health.is_serving,
        handshake_s=600,
        max_body_bytes=settings.max_message_bytes,
        add_site=Site(settings, surface.site).add_to,
    )
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        jar = aiohttp.CookieJar(unsafe=True)  # takes those of an address
        async with aiohttp.ClientSession(url, cookie_jar=jar) as client:
            yield client
        await http.close()


@pytest.fixture
async def site(surface: Surface) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client of the surface's API and pages."""
    async with open_site(surface) as client:
        yield client


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Set the logging of the process back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def lines(restored_logging: None) -> io.StringIO:
    """Give what is logged, as JSON."""
    stream = io.StringIO()
    logs.set_up("json", "debug", stream)
    structlog.configure(cache_logger_on_first_use=False)
    return stream
