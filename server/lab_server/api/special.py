"""The paths that are more than one RPC, or none: files, logs, curves, forks, events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from lab_server.api import curves, events, files, fork
from lab_server.api.gate import Gate
from lab_server.api.openapi import operation_of, path_parameter
from lab_server.api.parameters import describe
from lab_server.api.routes import Route
from lab_server.rpc.site_parts import SiteParts


@dataclass(frozen=True, slots=True)
class Special:
    """A route with a handler of its own.

    Attributes:
        route: its path, and the RPC whose role it needs.
        pattern: the path as the HTTP server takes it.
    """

    route: Route
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
    pattern: str


def special_routes(gate: Gate, parts: SiteParts) -> Sequence[Special]:
    """Return the routes with their handlers, but for that of events."""
    of_files = files.FilesEndpoint(gate, parts.streams, parts.logs)
    of_curves = curves.CurvesEndpoint(gate, parts.curves)
    of_forks = fork.ForkEndpoint(gate, parts.service)
    pattern = files.DOWNLOAD.path.replace("{path}", "{path:.+}")
    return (
        Special(files.DOWNLOAD, of_files.download, pattern),
        Special(files.LOGS, of_files.logs, files.LOGS.path),
        Special(curves.ROUTE, of_curves.handle, curves.ROUTE.path),
        Special(fork.ROUTE, of_forks.handle, fork.ROUTE.path),
    )


SPECIAL: Final[tuple[Route, ...]] = (
    files.DOWNLOAD,
    files.LOGS,
    curves.ROUTE,
    fork.ROUTE,
    events.ROUTE,
)
"""All of them."""

_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RUN: Final = path_parameter("run_id", "The run, by its id or a prefix that no other run has.")

SPECIAL_PATHS: Final[dict[str, Any]] = {
    files.DOWNLOAD.path: {
        "get": {
            "operationId": "download-GET",
            "summary": files.DOWNLOAD.summary,
            "parameters": [
                _RUN,
                path_parameter("path", "One that the list of files gave; it may have slashes."),
                *describe(files.FILE_PARAMETERS),
            ],
            "responses": {"200": {"description": "The file's bytes.", "content": _BYTES}},
        }
    },
    files.LOGS.path: {
        "get": {
            "operationId": "logs-GET",
            "summary": files.LOGS.summary,
            "parameters": [_RUN, *describe(files.LOG_PARAMETERS)],
            "responses": {
                "200": {
                    "description": "Some of the log.",
                    "content": {"application/json": {"schema": files.log_schema()}},
                }
            },
        }
    },
    curves.ROUTE.path: {
        "get": {
            "operationId": "curves-GET",
            "summary": curves.ROUTE.summary,
            "description": curves.encode.__doc__,
            "parameters": describe(curves.PARAMETERS),
            "responses": {"200": {"description": "The curves.", "content": _BYTES}},
        }
    },
    fork.ROUTE.path: {"post": operation_of(fork.ROUTE, change_body=fork.body_schema)},
    events.ROUTE.path: {
        "get": {
            **operation_of(events.ROUTE),
            "responses": {
                "200": {
                    "description": "Server-sent events: `hello`, then `runs` with what changed, and `end` "
                    "with an error. The id of each is the cursor to go on from, in Last-Event-ID.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                }
            },
        }
    },
}
"""What the OpenAPI document says of them."""
