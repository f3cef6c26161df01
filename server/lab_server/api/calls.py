"""Serves the routes that are RPCs: JSON to the request, the RPC's own handler, its answer as JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web
from google.protobuf.message import Message

from lab_core.errors import Violation
from lab_server.api.bodies import read_body
from lab_server.api.errors import Refused, json_response
from lab_server.api.gate import Gate
from lab_server.api.json_messages import from_json, to_json
from lab_server.api.query import query_to_json
from lab_server.api.routes import Route
from lab_server.errors import InvalidRequest

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def call_handler(route: Route, gate: Gate, *services: object) -> Handler:
    """Return the handler of a route, which calls the handler of its RPC that one of the services has."""
    (behavior,) = (getattr(part, route.rpc) for part in services if hasattr(part, route.rpc))

    async def handle(request: web.Request) -> web.StreamResponse:
        gate.admit(request, route.method)
        structlog.contextvars.bind_contextvars(method=route.rpc)
        return json_response(to_json(await behavior(await read_request(route, request), None)))

    return handle


async def read_request(route: Route, request: web.Request) -> Message:
    """Return the RPC's request of an HTTP request.

    Raises:
        InvalidRequest: With everything that is wrong with it.
        Refused: If its body is none.
    """
    if route.verb == "GET":
        data = query_to_json(request, route.fields)
    else:
        check_no_query(request)
        data = await read_json(request)
    check_settable(route, data)
    message = route.new_request()
    from_json(message, {**data, **request.match_info})
    if route.has_mask:
        masked = {name: value for name, value in data.items() if name not in route.unmasked}
        message.update_mask.paths.extend(_paths(masked))  # type: ignore[attr-defined]
    return message


def check_settable(route: Route, data: Mapping[str, Any]) -> None:
    """Refuse fields of the request that the route sets itself.

    Raises:
        InvalidRequest: If the body or query has some.
    """
    known = {field.name for field in route.fields}
    hidden = [name for name in data if name in _all_fields(route) - known]
    if hidden:
        raise InvalidRequest([Violation(n, f"{n} cannot be set here") for n in hidden])


def check_no_query(request: web.Request) -> None:
    """Refuse parameters in the query of a path that has none.

    Raises:
        InvalidRequest: If there are some.
    """
    query_to_json(request, ())


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the object in a request's body; without a body an empty one.

    Raises:
        InvalidRequest: If it is no JSON object.
        Refused: If it says to be something else, is too large or too slow.
    """
    body = await read_body(request)
    if body and request.content_type != "application/json":
        sentence = f"the body must be application/json, not {request.content_type[:100]}"
        raise Refused(415, "NOT_JSON", sentence)
    if not body:
        return {}
    try:
        data = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise InvalidRequest([Violation("", f"the body is not JSON: {reason}")]) from None
    if not isinstance(data, dict):
        raise InvalidRequest([Violation("", "the body must be a JSON object")])
    return data


def _paths(data: Mapping[str, Any]) -> list[str]:
    """Return what a body sets, each field of an inner object by itself: "paused", "budget.parallel"."""
    found = []
    for name, value in data.items():
        if isinstance(value, dict):
            found += [f"{name}.{inner}" for inner in value if value[inner] is not None]
        elif value is not None:
            found.append(name)
    return sorted(found)


def _all_fields(route: Route) -> set[str]:
    return {field.name for field in route.new_request().DESCRIPTOR.fields}


def _no_constant(name: str) -> Any:
    raise ValueError(f'JSON has no {name}; write "{name}"')
