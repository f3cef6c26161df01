"""A running server: its ports, its parts and its services, started in their order and ended in the reverse."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import grpc.aio
from prometheus_client import CollectorRegistry

from lab_server.app.background import (
    Tasks,
    give_back_memory,
    keep_up,
    load_catalogue,
    serve_http,
)
from lab_server.app.leadership import peer_credentials
from lab_server.app.leading import lead
from lab_server.app.own_slots import OwnSlots
from lab_server.app.parts import Parts, open_parts
from lab_server.app.services import Services
from lab_server.executors.protocol import Executor
from lab_server.http.exporter import Exporter
from lab_server.http.search_gauges import SearchGauges
from lab_server.model.slot import Slot
from lab_server.rpc.calls.forwarding import Forwarding
from lab_server.rpc.health import Health
from lab_server.rpc.server import bind, make_server
from lab_server.security.tls import Certificates
from lab_server.security.tokens import Tokens
from lab_server.settings.address import Address, listen
from lab_server.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Server:
    """Where a running server can be reached.

    Attributes:
        dashboard_url: where browsers find it; "" when it has no dashboard.
        reload: has it import its experiments anew; returns at once.
        own_slots: the agent of its own slots, where one has them.
    """

    grpc_address: Address
    http_address: Address
    dashboard_url: str
    reload: Callable[[], None]
    own_slots: OwnSlots


@contextlib.asynccontextmanager
async def open_server(
    settings: Settings, here: Executor, own: Sequence[Slot] = ()
) -> AsyncIterator[Server]:
    """Serve while the context is open; on exit drain calls, and leave or interrupt the trainers.

    Args:
        settings: of the server.
        here: starts trainers on this machine.
        own: its own slots, where an agent on this machine is to have them.

    Raises:
        SettingsError: If an address cannot be bound, or a TLS or token file cannot be used.
        StoreError: If the store cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Ports before runs: a server that cannot be reached must not touch them.
        ports = _open_ports(settings, lambda: parts.store.leader, stack)
        address = settings.advertise or str(ports.grpc_address)
        parts = await open_parts(settings, address, here, own, ports.registry, stack)
        stop_trainers = settings.on_shutdown == "stop"
        stack.push_async_callback(parts.control.shut_down, stop_trainers=stop_trainers)
        stack.push_async_callback(parts.searches.shut_down)
        async with Tasks() as tasks:
            if is_follower := bool(parts.store.leader):
                parts.hub.is_announcing = False
            else:
                await lead(parts, settings, tasks)
            services = Services(
                settings,
                parts,
                ports.tokens,
                dashboard_url=ports.dashboard_url,
                is_https=ports.is_https,
            )
            exporter = _exporter(settings, parts, ports.registry)
            services.add_to(ports.server)
            parts.machines.own_slots.listen(ports.server)
            await ports.server.start()
            stack.push_async_callback(_drain, ports, parts, services, settings.drain_s)
            # before: what its trainers still write goes to this server
            stack.push_async_callback(parts.machines.own_slots.end, stop_trainers=stop_trainers)
            tasks.start(
                keep_up(
                    serve_http,
                    ports.http_socket,
                    stack,
                    settings,
                    services.for_site(ports.forwarding),
                    exporter=exporter,
                    is_ready=lambda: ports.health.is_serving,
                    certificates=ports.certificates,
                ),
                keep_up(load_catalogue, parts.catalogue, ports.health, parts.devices),
                keep_up(give_back_memory, services.limits, parts.hub),
            )
            if is_follower:
                begin = partial(lead, parts, settings, tasks)
                tasks.start(parts.membership.follow(parts.following, begin))

            def reload() -> None:
                tasks.start(parts.machines.own_slots.reload(), parts.catalogue.reload())

            yield Server(
                ports.grpc_address,
                ports.http_address,
                ports.dashboard_url,
                reload,
                parts.machines.own_slots,
            )


@dataclass(frozen=True, slots=True)
class _Ports:
    """Where a server is reached, before it answers, and by whom.

    Attributes:
        forwarding: to the server that leads.
        server: that of gRPC.
        is_https: whether browsers find it encrypted.
        dashboard_url: where they find it; "" without a dashboard.
    """

    registry: CollectorRegistry
    health: Health
    tokens: Tokens | None
    certificates: Certificates | None
    forwarding: Forwarding
    server: grpc.aio.Server
    grpc_address: Address
    http_socket: socket.socket
    http_address: Address
    is_https: bool
    dashboard_url: str


def _open_ports(
    settings: Settings, leader: Callable[[], str], stack: contextlib.AsyncExitStack
) -> _Ports:
    registry, health = CollectorRegistry(), Health()
    tokens = Tokens(settings.tokens) if settings.tokens else None
    certificates = _certificates(settings)
    forwarding = Forwarding(leader, peer_credentials(settings), settings.keepalive_s)
    stack.push_async_callback(forwarding.close)
    server = make_server(settings, registry, health, tokens, forwarding)
    grpc_address = bind(server, settings, certificates)
    http_socket = stack.enter_context(listen(settings.http_address))
    http_address = settings.http_address.with_port(http_socket.getsockname()[1])
    is_https = certificates is not None and not http_address.is_loopback
    site_url = f"{'https' if is_https else 'http'}://{http_address}"
    return _Ports(
        registry=registry,
        health=health,
        tokens=tokens,
        certificates=certificates,
        forwarding=forwarding,
        server=server,
        grpc_address=grpc_address,
        http_socket=http_socket,
        http_address=http_address,
        is_https=is_https,
        dashboard_url=site_url if settings.dashboard else "",
    )


def _exporter(settings: Settings, parts: Parts, registry: CollectorRegistry) -> Exporter:
    registry.register(SearchGauges(parts.searches.live))
    return Exporter(
        registry,
        supervisor=parts.supervisor,
        store=parts.store,
        executor=parts.machines.executor,
        devices=parts.devices,
        home=settings.home,
    )


async def _drain(ports: _Ports, parts: Parts, services: Services, patience_s: float) -> None:
    await services.drain()
    ports.health.end()
    parts.hub.close()
    parts.searches.close()
    await ports.server.stop(patience_s)


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
