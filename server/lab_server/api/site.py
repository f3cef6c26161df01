"""The API in the HTTP server: its routes, and what wraps each of its answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from lab_server.api.calls import call_handler, check_no_query
from lab_server.api.errors import Refused, error_response, json_response
from lab_server.api.events import ROUTE as EVENTS
from lab_server.api.events import EventStreams
from lab_server.api.gate import Gate
from lab_server.api.openapi import document
from lab_server.api.routes import PREFIX, ROUTES
from lab_server.api.special import SPECIAL_PATHS, special_routes
from lab_server.rpc.site_parts import SiteParts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_api(app: web.Application, gate: Gate, parts: SiteParts) -> None:
    """Add the API to an application.

    Args:
        app: the application.
        gate: what each request must pass.
        parts: the service.
    """
    app.middlewares.append(_middleware(gate))
    for route in ROUTES:
        app.router.add_route(
            route.verb, route.path, call_handler(route, gate, parts.service, parts.searches)
        )
    for special in special_routes(gate, parts):
        app.router.add_route(special.route.verb, special.pattern, special.handle)
    events = EventStreams(gate, parts.streams)
    app.router.add_route("GET", EVENTS.path, events.handle)
    app.on_shutdown.append(events.close)
    app.router.add_route("GET", f"{PREFIX}/openapi.json", _openapi)


def _middleware(gate: Gate) -> Any:
    @web.middleware
    async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=secrets.token_hex(4))
        try:
            gate.check_origin(request)
            response = await handler(request)
        except asyncio.CancelledError:
            raise
        except web.HTTPException as error:
            response = _refused(request, error)
        except Exception as error:
            response = error_response(error)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return errors_as_json


def _refused(request: web.Request, error: web.HTTPException) -> web.Response:
    match error:
        case web.HTTPNotFound():
            sentence = f"there is no path {request.path[:200]!r}; see {PREFIX}/openapi.json"
            return error_response(Refused(404, "NO_PATH", sentence))
        case web.HTTPMethodNotAllowed():
            methods = ", ".join(sorted(error.allowed_methods))
            response = error_response(
                Refused(405, "METHOD", f"this path takes {methods}, not {request.method[:20]}")
            )
            response.headers["Allow"] = methods
            return response
    return error_response(Refused(error.status, "REFUSED", error.reason))


async def _openapi(request: web.Request) -> web.StreamResponse:
    check_no_query(request)
    return json_response(document(ROUTES, SPECIAL_PATHS))
