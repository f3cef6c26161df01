"""Join tokens that any server of a store makes for the agent of its own slots.

They are signed with the secret that the servers have in common, so a server that only follows, and cannot write
to the store, can make one that the leader takes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from lab_server.errors import Unauthenticated
from lab_server.model.agent import HOSTS_POOL, JoinToken
from lab_server.security.tokens import hash_of, parts_of, written

_VALID_S: Final = 3600.0
_MARK: Final = "host"


class HostTokens:
    """Makes and checks them.

    Args:
        secret: of the servers of a store.
        purpose: what they are for; one that is for something else is none.
        now_s: a clock that the servers have in common.
    """

    def __init__(
        self,
        secret: bytes,
        purpose: str = "join tokens of hosts",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._now_s = now_s
        self._key = hmac.digest(secret, purpose.encode(), "sha256") if secret else b""

    def new(self) -> str:
        """Return a token."""
        token_id = secrets.token_hex(4)
        until = f"{int(self._now_s() + _VALID_S)}"
        return written(token_id, f"{_MARK}.{until}.{self._signature(token_id, until)}")

    def is_one(self, header: str) -> bool:
        """Whether an authorization header holds a valid one: the caller is a server of this store."""
        try:
            return self.token(header) is not None
        except Unauthenticated:
            return False

    def token(self, header: str) -> JoinToken | None:
        """Return the token in an authorization header; None if it is not one of these, or has expired.

        Raises:
            Unauthenticated: If the header holds no token at all.
        """
        token_id, secret = parts_of(header, "")
        mark, _, rest = secret.partition(".")
        until, _, signature = rest.partition(".")
        is_ours = mark == _MARK and until.isascii() and until.isdigit() and bool(self._key)
        if not is_ours or not hmac.compare_digest(
            signature.encode(), self._signature(token_id, until).encode()
        ):
            return None
        if self._now_s() >= int(until):
            return None
        return JoinToken(token_id, HOSTS_POOL, hash_of(secret), int(until) * 10**9)

    def _signature(self, token_id: str, until: str) -> str:
        return hmac.new(self._key, f"{token_id}.{until}".encode(), hashlib.sha256).hexdigest()
