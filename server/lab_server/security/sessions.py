"""Sessions of browsers: a sealed cookie that holds the token, and one-time codes to get one.

The server keeps no sessions: the cookie is opened with each request, and its token looked up as if it had
been sent itself. So a session ends with its token, and outlives a restart of the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

MAX_AGE_S: Final = 7 * 86400
CODE_S: Final = 60.0
_MAX_CODES: Final = 1000


class Sessions:
    """Makes and opens the cookies of browsers that have logged in.

    Args:
        secret: the server's own, the same after a restart.
        is_https: whether browsers reach the server by HTTPS, and by nothing else.
    """

    def __init__(self, secret: bytes, *, is_https: bool) -> None:
        self._key = hmac.digest(secret, b"lab-train session", hashlib.sha256)
        self._codes: dict[str, tuple[float, str]] = {}
        self.is_https = is_https
        self.cookie_name = "__Host-lab" if is_https else "lab"

    @cached_property
    def _fernet(self) -> Fernet:
        # until a browser has a session, nobody needs it, and it is a fiftieth of the server's start
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(self._key))

    def seal(self, header: str) -> str:
        """Return the cookie's value for an authorization header."""
        return self._fernet.encrypt(header.encode()).decode()

    def header(self, cookies: Mapping[str, str]) -> str:
        """Return the authorization header of a request's session, "" without a good one."""
        sealed = cookies.get(self.cookie_name, "")
        if not sealed:
            return ""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed.encode("ascii"), ttl=MAX_AGE_S).decode()
        except (InvalidToken, UnicodeError):
            return ""

    def new_code(self, header: str) -> str:
        """Return a code that opens a session for an authorization header once, within a minute."""
        now = time.monotonic()
        self._codes = {c: known for c, known in self._codes.items() if known[0] > now}
        while len(self._codes) >= _MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[code] = (now + CODE_S, header)
        return code

    def redeem(self, code: str) -> str:
        """Return the authorization header that a code stands for, "" for a wrong, old or used one."""
        until, header = self._codes.pop(code, (0.0, ""))
        return header if until > time.monotonic() else ""
