"""Waits for more of a spool in the event loop: until the trainer rings, and not for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lab_server.files import bell

UNHEARD_S = 0.25
"""How often to look where the bell is heard: a trainer of an earlier version does not ring."""


class SpoolBell:
    """Listens from the first wait on. Lives in the event loop's thread.

    Args:
        spool: the spool's path.
        poll_s: how often to look where the bell cannot be heard.
    """

    def __init__(self, spool: Path, poll_s: float) -> None:
        self._spool = spool
        self._poll_s = poll_s
        self._listener: socket.socket | None = None
        self._rung: asyncio.Future[None] | None = None
        self._has_rung = False

    async def wait(
        self, others: Iterable[asyncio.Future[Any]] = (), timeout_s: float = UNHEARD_S
    ) -> None:
        """Return when it is time to look at the spool, or when one of some others is done.

        Args:
            others: tasks or futures.
            timeout_s: return after so long at the latest; nothing is closer than `poll_s`.
        """
        if self._listener is None:
            self._listen()
            # what was written before is to be seen now
            timeout_s = 0.0 if self._listener is not None else timeout_s
        limit_s = UNHEARD_S if self._listener is not None else self._poll_s
        if self._has_rung:
            self._has_rung = False
            return
        self._rung = asyncio.get_running_loop().create_future()
        await asyncio.wait(
            (self._rung, *others), timeout=min(limit_s, timeout_s), return_when="FIRST_COMPLETED"
        )
        self._rung = None
        self._has_rung = False

    def ring(self) -> None:
        """End the wait now."""
        self._has_rung = True
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)

    def close(self) -> None:
        """Listen no more; closing twice is fine."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        self._listener = bell.listen(self._spool)
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._hear, self._listener)

    def _hear(self, listener: socket.socket) -> None:
        bell.drain(listener)
        self.ring()
