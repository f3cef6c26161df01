"""The server's secret: what it makes of it is valid after a restart, and on no other server."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Final

_SECRET_BYTES: Final = 32


def server_secret(home: Path) -> bytes:
    """Return the secret in a server's folder, made when there is none.

    Where a full disk does not take one, it is only that of this process.
    """
    path = home / "secret"
    with contextlib.suppress(OSError):
        secret = path.read_bytes()
        if len(secret) == _SECRET_BYTES:  # else a full disk has cut it
            return secret
    secret = secrets.token_bytes(_SECRET_BYTES)
    with contextlib.suppress(OSError):
        path.touch(mode=0o600)
        path.write_bytes(secret)
    return secret
