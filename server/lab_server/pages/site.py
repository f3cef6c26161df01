"""The pages in the HTTP server: their routes, and how their errors are shown."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from lab_core.errors import LabError
from lab_server.api.errors import Refused, error_json, http_status
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.errors import Unauthenticated
from lab_server.pages import static
from lab_server.pages.actions import Actions
from lab_server.pages.boards import Boards
from lab_server.pages.compare import ComparePage
from lab_server.pages.login import LoginPages
from lab_server.pages.media import MediaPage
from lab_server.pages.new_run import NewRunPage
from lab_server.pages.render import Pages
from lab_server.pages.run import RunPage
from lab_server.pages.runs import RunsPage
from lab_server.pages.searches import SearchPages
from lab_server.pages.server import ServerPage
from lab_server.pages.tensorboard import TensorboardPages
from lab_server.rpc.site_parts import SiteParts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NOT_PAGES: Final = ("/api/", "/metrics", "/healthz", "/readyz")


def add_pages(app: web.Application, gate: Gate, parts: SiteParts) -> None:
    """Add the pages to an application."""
    pages = Pages(has_login=gate.tokens is not None)
    app.middlewares.append(_middleware(gate, pages))
    login = LoginPages(gate, pages)
    runs = RunsPage(gate, pages, parts)
    actions = Actions(gate, pages, parts)
    add = app.router.add_route
    add("GET", "/static/{stamp}/{name:.+}", static.serve)
    add("GET", "/login", login.show)
    add("POST", "/login", login.log_in)
    add("POST", "/logout", login.log_out)
    add("GET", "/", runs.show)
    add("GET", "/rows", runs.rows)
    add("POST", "/runs", actions.on_several)
    run = RunPage(gate, pages, parts)
    add("GET", "/runs/{run_id}", run.show)
    add("GET", "/runs/{run_id}/now", run.show_now)
    media = MediaPage(gate, pages, parts)
    add("GET", "/runs/{run_id}/media", media.show)
    add("GET", "/runs/{run_id}/media/image", media.image)
    add("POST", "/runs/{run_id}/{action}", actions.on_one)
    add("GET", "/compare", ComparePage(gate, pages, parts).show)
    new = NewRunPage(gate, pages, parts)
    add("GET", "/new", new.show)
    add("POST", "/new", new.send)
    searches = SearchPages(gate, pages, parts)
    add("GET", "/searches", searches.show_all)
    add("GET", "/searches/{search_id}", searches.show)
    add("POST", "/searches/{search_id}/{action}", searches.act)
    add("GET", "/server", ServerPage(gate, pages, parts).show)
    boards = Boards()
    app.on_shutdown.append(boards.close)
    tensorboard = TensorboardPages(gate, parts, boards)
    add("POST", "/tensorboard", tensorboard.open)
    for verb in ("GET", "POST"):  # it asks for its series by POST
        add(verb, "/tensorboard/{key}/{path:.*}", tensorboard.pass_on)


def _middleware(gate: Gate, pages: Pages) -> Any:
    @web.middleware
    async def errors_as_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_NOT_PAGES):
            return await handler(request)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=secrets.token_hex(4))
        try:
            gate.check_origin(request)
            return await handler(request)
        except (asyncio.CancelledError, web.HTTPSeeOther):
            raise
        except Unauthenticated as error:
            if request.method == "GET" and not gate.has_credentials(request):
                target = quote(request.path_qs, safe="")
                raise web.HTTPSeeOther(f"/login?next={target}") from None
            return _page(gate, pages, request, error)
        except web.HTTPException as error:
            return _page(gate, pages, request, _refused(request, error))
        except Exception as error:
            return _page(gate, pages, request, error)

    return errors_as_pages


def _refused(request: web.Request, error: web.HTTPException) -> Refused:
    match error:
        case web.HTTPNotFound():
            return Refused(404, "NO_PATH", f"there is no page {request.path[:200]!r}")
        case web.HTTPMethodNotAllowed():
            return Refused(405, "METHOD", f"this page does not take {request.method[:20]}")
    return Refused(error.status, "REFUSED", error.reason)


def _page(gate: Gate, pages: Pages, request: web.Request, error: Exception) -> web.StreamResponse:
    with contextlib.suppress(LabError):  # the page is the caller's, with what it may do
        gate.admit(request, method_of("GetServerInfo"))
    told = error_json(error)["error"]
    return pages.page(
        "error.html", {"status": http_status(error), "error": told}, status=http_status(error)
    )
