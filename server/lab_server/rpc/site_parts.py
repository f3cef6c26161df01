"""What the API and the pages share with gRPC: the handlers of the RPCs, who may call, and sessions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab_server.rpc.curves import Curves
from lab_server.rpc.logs import Logs
from lab_server.rpc.searches import SearchHandlers
from lab_server.rpc.streams import Streams
from lab_server.rpc.timeline import Timeline
from lab_server.rpc.unary import Service
from lab_server.security.sessions import Sessions
from lab_server.security.tokens import Tokens
from lab_server.watch.media_index import MediaIndex


@dataclass(frozen=True, slots=True)
class SiteParts:
    """The service, as the site calls it.

    Attributes:
        service: the unary RPCs.
        searches: those of searches.
        streams: the streaming ones.
        curves, logs, media, timeline: what only the site shows.
        home: the server's folder.
        tokens: who may call; None allows everybody everything.
        sessions: of browsers that have logged in.
    """

    service: Service
    searches: SearchHandlers
    streams: Streams
    curves: Curves
    logs: Logs
    media: MediaIndex
    timeline: Timeline
    home: Path
    tokens: Tokens | None
    sessions: Sessions
