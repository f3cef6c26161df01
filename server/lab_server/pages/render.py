"""Templates: what every page has, and how values are written."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web
from markupsafe import Markup

from lab_server.api.json_messages import plain_to_json
from lab_server.api.routes import method_of
from lab_server.messages.values import value_from_proto
from lab_server.pages.static import url_of
from lab_server.rpc.calls import auth
from lab_server.supervisor.forecast import duration

CSP: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
_RUN_ID: Final = re.compile(r"\b(\d{8}-\d{6}-[0-9a-f]{8})\b")
_HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Pages:
    """Renders pages; text of users is escaped by all templates.

    Args:
        has_login: whether there are tokens, and so somebody to log out.
    """

    def __init__(self, *, has_login: bool) -> None:
        self._has_login = has_login
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            auto_reload=False,  # those of another version do not fit this one's code
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "age": age,
            "clock": clock,
            "config": config_text,
            "duration": duration,
            "linked": linked,
            "number": number,
            "size": size,
            "time": timestamp,
        }
        self._templates.globals |= {"static": url_of, "may": _may}

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> web.Response:
        """Return a page.

        Args:
            template: its file's name.
            values: what the template shows.
            status: of HTTP.
        """
        text = self.text(template, values)
        return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)

    def text(self, template: str, values: Mapping[str, Any]) -> str:
        """Return a template's text."""
        who = auth.current()
        known = {
            "principal": who.name,
            "role": who.role.name.lower(),
            "is_known": bool(who.name) or not self._has_login,
        }
        return self._templates.get_template(template).render(known | dict(values))


def _may(rpc: str, owner: str | None = None) -> bool:
    return auth.may(method_of(rpc), owner)


def linked(text: str) -> Markup:
    """Return a sentence with a link at each id of a run."""
    link = Markup('<a href="/runs/{0}">{0}</a>')
    parts = enumerate(_RUN_ID.split(text))  # every second one is an id
    return Markup("").join(link.format(part) if index % 2 else part for index, part in parts)


def number(value: float | None) -> str:
    """Write a number with four significant digits, as people read it."""
    if value is None:
        return ""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.4g}"


def config_text(value: Any) -> str:
    """Write a config's value as JSON does; one that is unset as a dash."""
    if hasattr(value, "WhichOneof"):
        value = value_from_proto(value)
    if isinstance(value, str):
        return value or '""'
    return json.dumps(plain_to_json(value), ensure_ascii=False)


def age(stamp: Any) -> str:
    """Write how long ago a timestamp is, in one unit."""
    seconds = max(0, round(time.time() - stamp.seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def timestamp(stamp: Any) -> str:
    """Write a timestamp as RFC 3339, in UTC and whole seconds."""
    return clock(stamp.seconds)


def clock(seconds: float) -> str:
    """Write Unix seconds as RFC 3339, in UTC and whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def size(num_bytes: int) -> str:
    """Write a number of bytes."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= length:
            return f"{num_bytes / length:.3g} {unit}"
    return f"{num_bytes} B"
