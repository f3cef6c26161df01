"""A running server: store, hub, supervisor, gRPC and HTTP, wired together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from lab_core.errors import SettingsError
from lab_server import rpc
from lab_server.addresses import Address
from lab_server.auth import Authenticate
from lab_server.catalogue import Catalogue
from lab_server.devices import Devices
from lab_server.executors import Executor
from lab_server.exporter import Exporter
from lab_server.health import Health
from lab_server.http import Http
from lab_server.hub import Hub
from lab_server.interceptors import AroundInterceptor, ParseInterceptor, errors_as_statuses
from lab_server.limits import Limits
from lab_server.paging import Paging
from lab_server.rpc_metrics import RpcMetrics
from lab_server.service import Service
from lab_server.settings import Settings
from lab_server.store.sql import SqlStore
from lab_server.streams import Streams
from lab_server.supervisor import Supervisor, SupervisorOptions
from lab_server.tls import Certificates
from lab_server.tokens import Tokens

_log = structlog.get_logger("lab_server")


class Server:
    """The parts that others ask for once it runs."""

    def __init__(self, grpc_address: Address, http_address: Address) -> None:
        self.grpc_address = grpc_address
        self.http_address = http_address

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, executor: Executor) -> AsyncIterator[Server]:
        """Serve while the context is open; when it closes, drain, and leave or stop the trainers.

        Raises:
            SettingsError: If an address cannot be bound.
            StoreError: If the store cannot be opened.
        """
        home = settings.home
        async with contextlib.AsyncExitStack() as stack:
            store = SqlStore(f"sqlite:///{home / 'lab.db'}")
            stack.push_async_callback(store.close)
            hub = Hub(store)
            supervisor = Supervisor(store, hub, executor, home, _supervision(settings))
            await supervisor.start_up()
            stack.push_async_callback(
                supervisor.shut_down, stop_trainers=settings.on_shutdown == "stop"
            )
            catalogue = Catalogue(executor)
            health = Health()
            registry = CollectorRegistry()
            devices = Devices()
            limits = Limits(max_streams=settings.max_streams, max_runs=settings.max_runs)
            service = Service(
                catalogue=catalogue,
                supervisor=supervisor,
                store=store,
                paging=Paging.of_home(home),
                limits=limits,
                home=home,
            )
            streams = Streams(
                supervisor=supervisor,
                store=store,
                hub=hub,
                limits=limits,
                home=home,
                heartbeat_s=settings.heartbeat_s,
            )
            exporter = Exporter(
                registry,
                supervisor=supervisor,
                store=store,
                executor=executor,
                devices=devices,
                home=home,
            )
            tokens = Tokens(settings.tokens) if settings.tokens else None
            certificates = _certificates(settings)
            server = _grpc_server(settings, registry, tokens)
            server.add_generic_rpc_handlers((rpc.handlers(service, streams),))
            health_pb2_grpc.add_HealthServicer_to_server(health, server)
            names = (rpc.SERVICE_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
            grpc_address = _bind(server, settings, certificates)
            is_local = settings.http_address.is_loopback
            http = Http(
                exporter,
                health,
                handshake_s=settings.handshake_s,
                certificates=None if is_local else certificates,
                tokens=None if is_local else tokens,
            )
            http_address = await _start(http, settings.http_address)
            stack.push_async_callback(http.close)
            await server.start()

            async def drain() -> None:
                service.drain()
                health.end()
                hub.close()
                await server.stop(settings.drain_s)

            stack.push_async_callback(drain)
            loading = asyncio.create_task(_load(catalogue, health, devices))
            stack.callback(loading.cancel)
            yield cls(grpc_address, http_address)


def _supervision(settings: Settings) -> SupervisorOptions:
    return SupervisorOptions(
        queue_limit=settings.queue_limit,
        max_retries=settings.max_retries,
        max_runtime_s=settings.max_runtime_s,
        grace_s=settings.grace_s,
        stall_timeout_s=settings.stall_timeout_s,
    )


async def _load(catalogue: Catalogue, health: Health, devices: Devices) -> None:
    await asyncio.to_thread(devices.open)
    await catalogue.load()
    health.set_serving(catalogue.is_loaded)


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def interceptors(
    registry: CollectorRegistry, tokens: Tokens | None = None
) -> list[grpc.aio.ServerInterceptor]:
    """Return what surrounds every call, the outermost first."""
    return [
        AroundInterceptor(RpcMetrics(registry)),
        AroundInterceptor(errors_as_statuses),
        *([AroundInterceptor(Authenticate(tokens))] if tokens else []),
        ParseInterceptor(),
    ]


def _grpc_server(
    settings: Settings, registry: CollectorRegistry, tokens: Tokens | None
) -> grpc.aio.Server:
    keepalive_ms = int(settings.keepalive_s * 1000)
    return grpc.aio.server(
        interceptors=interceptors(registry, tokens),
        options=[
            # Two servers on one port would share the calls among them.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", keepalive_ms),
            ("grpc.keepalive_timeout_ms", max(keepalive_ms // 2, 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Clients may ping as often as the server itself does.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", max(keepalive_ms // 4, 100)),
            ("grpc.http2.max_ping_strikes", 5),
            ("grpc.max_connection_idle_ms", int(settings.idle_connection_s * 1000)),
            ("grpc.server_handshake_timeout_ms", int(settings.handshake_s * 1000)),
        ],
    )


def _bind(
    server: grpc.aio.Server, settings: Settings, certificates: Certificates | None
) -> Address:
    address = settings.grpc_address
    try:
        if certificates is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), certificates.grpc_credentials())
    except RuntimeError:
        port = 0
    if not port:
        raise SettingsError(f"cannot listen on grpc={address}: is the port in use?")
    return address.with_port(port)


async def _start(http: Http, address: Address) -> Address:
    try:
        return await http.start(address)
    except OSError as error:
        raise SettingsError(f"cannot listen on http={address}: {error.strerror}") from None
