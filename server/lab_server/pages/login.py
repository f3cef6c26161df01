"""Log in: a token, or the code of `lab dashboard`, becomes a session's cookie."""

from __future__ import annotations

from aiohttp import web

from lab_server.api.gate import Gate
from lab_server.errors import Unauthenticated
from lab_server.pages.forms import read_form
from lab_server.pages.render import Pages
from lab_server.security.sessions import MAX_AGE_S


class LoginPages:
    """Serves `/login` and `/logout`."""

    def __init__(self, gate: Gate, pages: Pages) -> None:
        self._gate = gate
        self._pages = pages

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the form."""
        if self._gate.tokens is None:
            raise web.HTTPSeeOther("/")
        return self._pages.page("login.html", {"error": "", "next": _next(request)})

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Open a session, and go to the page that was asked for."""
        form = await read_form(request)
        target = safe_target(form.text("next"))
        if self._gate.tokens is None:
            raise web.HTTPSeeOther(target)
        sessions = self._gate.sessions
        if code := form.text("code"):
            header = sessions.redeem(code)
            missing = "this link was used, or is more than a minute old; run lab dashboard again"
        else:
            header = f"Bearer {form.text('token')}"
            missing = "this server does not know that token, or it was revoked"
        try:
            self._gate.tokens.principal(header)
        except Unauthenticated:
            values = {"error": missing, "next": target}
            return self._pages.page("login.html", values, status=401)
        response = web.HTTPSeeOther(target)
        response.set_cookie(
            sessions.cookie_name,
            sessions.seal(header),
            max_age=MAX_AGE_S,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=sessions.is_https,
        )
        raise response

    async def log_out(self, _request: web.Request) -> web.StreamResponse:
        """End the session in this browser."""
        response = web.HTTPSeeOther("/login")
        response.del_cookie(self._gate.sessions.cookie_name, path="/")
        raise response


def safe_target(path: str) -> str:
    """Return a path of this site to go to; "/" for any other place."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own and "\\" not in path else "/"


def _next(request: web.Request) -> str:
    return safe_target(request.query.get("next", "/"))
