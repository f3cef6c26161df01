"""A running server: store, hub, supervisor, gRPC and HTTP, built and wired together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry, Histogram

from lab_server.app.background import (
    give_back_memory,
    keep_telling_servers,
    keep_up,
    load_catalogue,
    prune_uploads,
    retain,
    serve_http,
    tell_servers,
)
from lab_server.app.leadership import Membership, SwitchedControl, peer_credentials, started
from lab_server.app.own_slots import OwnSlots
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.cluster import ClusterExecutor
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.pools.pools import Pools, owner_of
from lab_server.executors.protocol import Executor
from lab_server.executors.remote.registry import Agents
from lab_server.files.home import Home
from lab_server.files.secret import server_secret
from lab_server.http.exporter import Exporter
from lab_server.http.search_gauges import SearchGauges
from lab_server.model.media import MediaLimits
from lab_server.model.slot import Slot
from lab_server.rpc.agents import AgentService
from lab_server.rpc.calls.forwarding import Forwarding
from lab_server.rpc.calls.handlers import (
    AGENT,
    PEER,
    SEARCH,
    SEARCH_SERVICE_NAME,
    SERVICE_NAME,
    TRAINING,
    handlers,
)
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.curves import Curves
from lab_server.rpc.dashboard import DashboardDoor
from lab_server.rpc.elsewhere import Elsewhere
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.forwarded import ForwardedHandlers
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.health import Health
from lab_server.rpc.logs import Logs
from lab_server.rpc.other_servers import OtherServers
from lab_server.rpc.paging import Paging
from lab_server.rpc.peers import PeerService
from lab_server.rpc.searches import SearchHandlers
from lab_server.rpc.server import bind, make_server
from lab_server.rpc.site_parts import SiteParts
from lab_server.rpc.streams import Streams
from lab_server.rpc.timeline import Timeline
from lab_server.rpc.unary import Service
from lab_server.rpc.uploads import Uploads
from lab_server.search.searches import Searches
from lab_server.security.agents import AgentCredentials
from lab_server.security.host_tokens import HostTokens
from lab_server.security.sessions import Sessions
from lab_server.security.tls import Certificates
from lab_server.security.tokens import Tokens
from lab_server.settings.address import Address, listen
from lab_server.settings.settings import Settings
from lab_server.supervisor import Supervisor, SupervisorOptions
from lab_server.supervisor.following import Following
from lab_server.supervisor.protocol import RunControl
from lab_server.supervisor.retention import Retention
from lab_server.watch.announcing import AnnouncingHub
from lab_server.watch.history_writer import HistoryWriter
from lab_server.watch.media_index import MediaIndex


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
    home = settings.home
    async with contextlib.AsyncExitStack() as stack:
        tokens = Tokens(settings.tokens) if settings.tokens else None
        certificates = _certificates(settings)
        registry, health = CollectorRegistry(), Health()
        # Ports before runs: a server that cannot be reached must not touch them.
        forwarding = Forwarding(
            lambda: store.leader, peer_credentials(settings), settings.keepalive_s
        )
        stack.push_async_callback(forwarding.close)
        server = make_server(settings, registry, health, tokens, forwarding)
        grpc_address = bind(server, settings, certificates)
        http_socket = stack.enter_context(listen(settings.http_address))
        membership = Membership(settings, Home(home), settings.advertise or str(grpc_address))
        store = membership.store
        stack.push_async_callback(store.close)
        secret = server_secret(home)
        if settings.store:
            secret = await store.secret("server", secret)  # that of all servers of the store
        paging = Paging(secret)
        writes = Histogram(
            "lab_store_write_seconds", "Duration of the store's transactions.", registry=registry
        )
        store.observe_writes(writes.observe)
        hub = AnnouncingHub(store, registry, heartbeat_s=settings.heartbeat_s)
        following = Following(store, hub, queue_limit=settings.queue_limit)
        control = SwitchedControl(following)
        supervisor = cast(RunControl, control)
        clock = await store.clock()
        host_tokens = HostTokens(secret, now_s=clock)
        credentials = AgentCredentials(store.agents, settings.tokens, host_tokens)
        agents = Agents(settings.agent_lease_s, home=Home(home).server_id())
        stack.callback(agents.close)
        pools = Pools(
            settings.pools,
            agents,
            server=settings.advertise or str(grpc_address),
            owner=owner_of(secret),
            join_token=credentials.new_join_token,
            takes_uploads=settings.allow_uploads,
        )
        stack.push_async_callback(pools.close)
        sent_code = Home(home).uploads if settings.allow_uploads else None
        executor = ClusterExecutor(here, agents, pools, own, takes_uploads=settings.allow_uploads)
        peer_tokens = HostTokens(secret, "calls between servers", clock)
        others = OtherServers(store.members, peer_tokens, peer_credentials(settings))
        elsewhere = Elsewhere(home, others)
        files = FilesOfRuns(home, elsewhere)
        own_slots = OwnSlots(settings, own, credentials.new_host_token)
        catalogue, devices = Catalogue(executor), Devices()
        searches = Searches(
            store=store.searches,
            runs=supervisor,
            run_store=store,
            catalogue=catalogue,
            hub=hub,
            max_runs=settings.max_runs,
            heartbeat_s=settings.heartbeat_s,
        )
        tasks: list[asyncio.Task[None]] = []

        async def lead() -> None:
            """Begin to train, and with all else that one server of a store does for all.

            What failed for want of the store may be tried again: each part begins once.
            """
            hub.is_announcing = True
            await credentials.refresh()
            agents.expect(credentials.pools())
            if control.current is following:
                options = _supervisor_options(settings)
                control.current = await started(
                    Supervisor(store, hub, executor, home, options, elsewhere)
                )
            leading = control.current
            await searches.start_up()
            history_writer = HistoryWriter(store)
            hub.observe(history_writer.note)
            retention = Retention(settings.retention_days, settings.retention_count)
            works = (
                keep_up(retain, retention, store, leading, searches.needs),
                keep_up(prune_uploads, Home(home).uploads),
                keep_up(history_writer.run),
                keep_up(pools.run, leading.waiting, leading.slots),
                keep_up(credentials.keep_fresh),
                keep_up(keep_telling_servers, store, agents),
            )
            tasks.extend(asyncio.create_task(work) for work in works)

        async def end_runs() -> None:
            await control.shut_down(stop_trainers=settings.on_shutdown == "stop")

        stack.push_async_callback(end_runs)
        stack.push_async_callback(searches.shut_down)
        if is_follower := bool(store.leader):
            hub.is_announcing = False
        else:
            await lead()
        limits = Limits(max_streams=settings.max_streams, max_runs=settings.max_runs)
        uploads = Uploads(sent_code, limits)
        service = Service(
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            paging=paging,
            limits=limits,
            uploads=uploads,
            gpus=Gpus(devices, agents),
            home=Home(home),
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
            home=home,
        )
        registry.register(SearchGauges(searches.live))
        search_service = SearchHandlers(
            searches=searches,
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            limits=limits,
            paging=paging,
        )
        curves = Curves(supervisor, store, catalogue)
        hub.observe(curves.note)
        is_https = certificates is not None and not settings.http_address.is_loopback
        http_address = settings.http_address.with_port(http_socket.getsockname()[1])
        url = f"{'https' if is_https else 'http'}://{http_address}" if settings.dashboard else ""
        sessions = Sessions(secret, is_https=is_https)
        door = DashboardDoor(url, sessions, has_tokens=tokens is not None)
        agent_service = AgentService(
            agents,
            credentials,
            is_open=lambda: control.current is not following,
            uploads=sent_code,
        )
        server.add_generic_rpc_handlers(
            (
                handlers(TRAINING, service, streams, uploads, door),
                handlers(SEARCH, search_service),
                handlers(AGENT, agent_service),
                handlers(PEER, PeerService(home, store, peer_tokens)),
            )
        )
        own_slots.listen(server)
        await server.start()

        async def drain() -> None:
            service.drain()
            await tell_servers(store, agents)  # one may have come just now
            agent_service.drain()
            health.end()
            hub.close()
            searches.close()
            await server.stop(settings.drain_s)

        stack.push_async_callback(drain)
        # before: what its trainers still write goes to this server
        stack.push_async_callback(own_slots.end, stop_trainers=settings.on_shutdown == "stop")
        http = keep_up(
            serve_http,
            http_socket,
            stack,
            settings,
            SiteParts(
                service=cast(Service, ForwardedHandlers(service, SERVICE_NAME, forwarding)),
                searches=cast(
                    SearchHandlers,
                    ForwardedHandlers(search_service, SEARCH_SERVICE_NAME, forwarding),
                ),
                streams=cast(Streams, ForwardedHandlers(streams, SERVICE_NAME, forwarding)),
                curves=curves,
                logs=Logs(supervisor, files),
                media=MediaIndex(store),
                timeline=Timeline(store),
                home=home,
                tokens=tokens,
                sessions=sessions,
            ),
            exporter=exporter,
            is_ready=lambda: health.is_serving,
            certificates=certificates,
        )
        works = [
            http,
            keep_up(load_catalogue, catalogue, health, devices),
            keep_up(give_back_memory, limits, hub),
        ]
        if is_follower:
            works.append(membership.follow(following, lead))
        tasks.extend(asyncio.create_task(work) for work in works)

        def reload() -> None:
            own_slots.reload()
            task = asyncio.create_task(catalogue.reload())
            tasks.append(task)
            task.add_done_callback(tasks.remove)

        try:
            yield Server(grpc_address, http_address, url, reload, own_slots)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=5)


def _supervisor_options(settings: Settings) -> SupervisorOptions:
    return SupervisorOptions(
        queue_limit=settings.queue_limit,
        max_retries=settings.max_retries,
        max_runtime_s=settings.max_runtime_s,
        grace_s=settings.grace_s,
        stall_timeout_s=settings.stall_timeout_s,
        usage_interval_s=settings.usage_interval_s,
        media=MediaLimits(settings.media_items, int(settings.media_mb * 1e6)),
    )


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
