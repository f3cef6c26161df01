"""The HTTP port: /metrics, /healthz and /readyz for machines, and the site: API and pages."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from lab_server.errors import Unauthenticated
from lab_server.http.exporter import Exporter
from lab_server.model.roles import Role
from lab_server.security.tls import Certificates
from lab_server.security.tokens import Tokens

_MAX_LINE_BYTES: Final = 128 * 1024
"""Of a request line: the curves of a hundred runs and fifty metrics have them all in the query."""


class Http:
    """The HTTP server: /healthz answers while it runs, /readyz while it takes new runs."""

    def __init__(
        self,
        exporter: Exporter,
        is_ready: Callable[[], bool],
        *,
        handshake_s: float,
        certificates: Certificates | None = None,
        tokens: Tokens | None = None,
        max_body_bytes: int = 4096,
        add_site: Callable[[web.Application], None] | None = None,
    ) -> None:
        """Make the server.

        Args:
            exporter: what /metrics shows.
            is_ready: whether new runs are taken, for /readyz.
            handshake_s: seconds a new connection gets to send a request.
            certificates: makes it HTTPS.
            tokens: whose bearers may read /metrics; None allows everybody.
            max_body_bytes: the largest body of a request.
            add_site: adds the API and the pages; None serves none.
        """
        self._exporter = exporter
        self._is_ready = is_ready
        self._handshake_s = handshake_s
        self._certificates = certificates
        self._tokens = tokens
        logging.getLogger("aiohttp.server").addFilter(_shorten)
        app = web.Application(middlewares=[self._note_request], client_max_size=max_body_bytes)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        if add_site is not None:
            add_site(app)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=75,
            shutdown_timeout=1,
            max_line_size=_MAX_LINE_BYTES,
        )
        self._silent: set[web.RequestHandler] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Accept connections on a listening socket."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=listening, ssl=self._tls())

    async def close(self) -> None:
        """Stop listening and close the connections."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _tls(self) -> ssl.SSLContext | None:
        return self._certificates.http_context() if self._certificates else None

    def _connection(self) -> asyncio.Protocol:
        self._tls()  # renews the context's certificate, if its files were
        assert self._runner.server is not None
        protocol = self._runner.server()
        # aiohttp bounds the time between requests, not the time before the first.
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(self._handshake_s, self._close_if_silent, protocol)
        return protocol

    def _close_if_silent(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.close()

    @web.middleware
    async def _note_request(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        return await handler(request)

    async def _metrics(self, request: web.Request) -> web.Response:
        if why := self._why_refused(request):
            return web.Response(
                status=401,
                text=f"{why}; send Authorization: Bearer TOKEN\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        body, content_type = await self._exporter.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _why_refused(self, request: web.Request) -> str:
        """Return why a request may not read the metrics, "" if it may."""
        if self._tokens is None:
            return ""
        try:
            principal = self._tokens.principal(request.headers.get("Authorization", ""))
        except Unauthenticated as error:
            return str(error).partition(";")[0]
        return "" if principal.role >= Role.VIEWER else "the token is not a viewer's"

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._is_ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the server is starting or stopping\n")


def _shorten(record: logging.LogRecord) -> bool:
    """Log a malformed request as one line: anybody can send one, and it is no error of the server."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        text = error.message if isinstance(error, HttpProcessingError) else str(error)
        reason = " ".join(text.removeprefix("400, message:").split())[:200]
        record.msg, record.args = f"malformed HTTP request: {reason!r}", ()
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
