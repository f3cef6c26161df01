"""The services of a server: the handlers of its RPCs, and how the HTTP port calls them."""

from __future__ import annotations

from typing import cast

import grpc.aio

from lab_server.app.background import tell_servers
from lab_server.app.parts import Parts
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
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.forwarded import ForwardedHandlers
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.logs import Logs
from lab_server.rpc.paging import Paging
from lab_server.rpc.peers import PeerService
from lab_server.rpc.searches import SearchHandlers
from lab_server.rpc.site_parts import SiteParts
from lab_server.rpc.streams import Streams
from lab_server.rpc.timeline import Timeline
from lab_server.rpc.unary import Service
from lab_server.rpc.uploads import Uploads
from lab_server.security.sessions import Sessions
from lab_server.security.tokens import Tokens
from lab_server.settings.settings import Settings
from lab_server.watch.media_index import MediaIndex


class Services:
    """What a server answers.

    Args:
        settings: of the server.
        parts: that the services work with.
        tokens: who may call; None allows everybody everything.
        dashboard_url: where browsers find the dashboard; "" without one.
        is_https: whether they find it encrypted.

    Attributes:
        limits: of streams and runs.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        tokens: Tokens | None,
        *,
        dashboard_url: str,
        is_https: bool,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._tokens = tokens
        supervisor, store, catalogue = parts.supervisor, parts.store, parts.catalogue
        agents = parts.machines.agents
        self.limits = limits = Limits(max_streams=settings.max_streams, max_runs=settings.max_runs)
        paging = Paging(parts.secret)
        sent_code = parts.home.uploads if settings.allow_uploads else None
        self._uploads = Uploads(sent_code, limits)
        self._files = files = FilesOfRuns(settings.home, parts.elsewhere)
        self._training = Service(
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            paging=paging,
            limits=limits,
            uploads=self._uploads,
            gpus=Gpus(parts.devices, agents),
            home=parts.home,
            files=files,
        )
        self._streams = Streams(
            supervisor=supervisor, store=store, hub=parts.hub, limits=limits, files=files
        )
        self._searches = SearchHandlers(
            searches=parts.searches,
            catalogue=catalogue,
            supervisor=supervisor,
            store=store,
            limits=limits,
            paging=paging,
        )
        self._curves = Curves(supervisor, store, catalogue)
        parts.hub.observe(self._curves.note)
        self._sessions = Sessions(parts.secret, is_https=is_https)
        self._door = DashboardDoor(dashboard_url, self._sessions, has_tokens=tokens is not None)
        self._agents = AgentService(
            agents,
            parts.machines.credentials,
            is_open=lambda: parts.control.is_leading,
            uploads=sent_code,
        )

    def add_to(self, server: grpc.aio.Server) -> None:
        """Have a gRPC server answer them."""
        peers = PeerService(self._settings.home, self._parts.store, self._parts.peer_tokens)
        server.add_generic_rpc_handlers(
            (
                handlers(TRAINING, self._training, self._streams, self._uploads, self._door),
                handlers(SEARCH, self._searches),
                handlers(AGENT, self._agents),
                handlers(PEER, peers),
            )
        )

    def for_site(self, forwarding: Forwarding) -> SiteParts:
        """Return them as the HTTP port calls them: what only the leader can answer is forwarded."""

        def forwarded(here: object, service: str) -> ForwardedHandlers:
            return ForwardedHandlers(here, service, forwarding)

        parts = self._parts
        return SiteParts(
            service=cast(Service, forwarded(self._training, SERVICE_NAME)),
            searches=cast(SearchHandlers, forwarded(self._searches, SEARCH_SERVICE_NAME)),
            streams=cast(Streams, forwarded(self._streams, SERVICE_NAME)),
            curves=self._curves,
            logs=Logs(parts.supervisor, self._files),
            media=MediaIndex(parts.store),
            timeline=Timeline(parts.store),
            home=self._settings.home,
            tokens=self._tokens,
            sessions=self._sessions,
        )

    async def drain(self) -> None:
        """Refuse new runs, and send the agents to the next server."""
        self._training.drain()
        # a server may have come just now
        await tell_servers(self._parts.store, self._parts.machines.agents)
        self._agents.drain()
