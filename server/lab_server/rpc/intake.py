"""Whether this server takes new runs, and the keys by which a request that is sent again is known."""

from __future__ import annotations

from lab_server.errors import Unavailable
from lab_server.rpc.calls import auth


class Intake:
    """Takes new runs until it is closed."""

    def __init__(self) -> None:
        self._is_open = True

    def close(self) -> None:
        """Refuse new runs from now on."""
        self._is_open = False

    def check(self) -> None:
        """Check that runs are taken.

        Raises:
            Unavailable: If the server is stopping.
        """
        if not self._is_open:
            raise Unavailable("the server is stopping and takes no new runs; try again in a minute")


def key_of(purpose: str, key: str) -> str | None:
    """Return the caller's idempotency key for a purpose, None for none."""
    # keys are per principal: nobody gets another's run by guessing its key
    return f"{auth.current().name}/{purpose}/{key}" if key else None
