"""What a request must pass before it is served: the right host, no other site behind it, who asks."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from lab_server.api.errors import Refused
from lab_server.rpc.calls import auth
from lab_server.security.sessions import Sessions
from lab_server.security.tokens import Tokens
from lab_server.settings.address import Address

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Admits requests to the API and the pages.

    Args:
        address: where the server listens.
        allowed_hosts: further names by which it may be reached.
        tokens: who may call; None allows everybody everything.
        sessions: of browsers that have logged in.
    """

    def __init__(
        self,
        address: Address,
        allowed_hosts: Iterable[str],
        tokens: Tokens | None,
        sessions: Sessions,
    ) -> None:
        own = (address.host, socket.gethostname(), socket.getfqdn())
        self._hosts = frozenset(name.lower() for name in (*own, *allowed_hosts))
        self.tokens = tokens
        self.sessions = sessions

    def check_origin(self, request: web.Request) -> None:
        """Check that the request means this server, and that no other site made the browser send it.

        A name that an attacker's DNS lets point here (DNS rebinding) is not one of the allowed; an address
        is no name. Browsers say which site a request comes from in Sec-Fetch-Site, older ones in Origin;
        who says neither is no browser, and has no cookie to abuse.

        Raises:
            Refused: Otherwise.
        """
        if not self._is_known(_host_of(request.headers.get("Host", ""))):
            raise Refused(
                421,
                "UNKNOWN_HOST",
                f"this server is not {request.headers.get('Host', '')[:100]!r}; an administrator can"
                " allow further names with --allowed-hosts",
            )
        if request.method in SAFE:
            return
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        if site is not None:
            is_own = site in ("same-origin", "none")
        else:
            is_own = origin is None or _place_of(origin) == request.headers.get("Host")
        if not is_own:
            raise Refused(403, "OTHER_SITE", "a page of another site may not do this")

    def admit(self, request: web.Request, method: str) -> None:
        """Make the bearer of the request's token, or of its session, the principal of the call.

        Args:
            request: the request.
            method: the RPC that it is.

        Raises:
            Unauthenticated: Without a valid token.
            PermissionDenied: If its role is too low for the method.
        """
        auth.admit(self.tokens, method, self._header(request))

    def has_credentials(self, request: web.Request) -> bool:
        """Whether a request brings a token, or a session that was opened here; it may be too old."""
        return bool(self._header(request))

    def _header(self, request: web.Request) -> str:
        if self.tokens is None:
            return ""
        return request.headers.get("Authorization") or self.sessions.header(request.cookies)

    def _is_known(self, host: str) -> bool:
        if host in self._hosts or host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def _host_of(header: str) -> str:
    """Return the name or address in a Host header, "" for what is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    """Return the host and port in an Origin header, "" for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
