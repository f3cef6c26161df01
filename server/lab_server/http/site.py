"""The site of a server: the API and the pages, and what guards both."""

from __future__ import annotations

from aiohttp import web

from lab_server.api.gate import Gate
from lab_server.api.site import add_api
from lab_server.pages.site import add_pages
from lab_server.rpc.site_parts import SiteParts
from lab_server.settings.settings import Settings


class Site:
    """Adds the API and the pages to the HTTP server."""

    def __init__(self, settings: Settings, parts: SiteParts) -> None:
        self._settings = settings
        self._parts = parts

    def add_to(self, app: web.Application) -> None:
        """Add the site to an application."""
        settings, parts = self._settings, self._parts
        gate = Gate(settings.http_address, settings.allowed_hosts, parts.tokens, parts.sessions)
        add_api(app, gate, parts)
        add_pages(app, gate, parts)
