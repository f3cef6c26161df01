"""Waits for more of a spool in the event loop: until the trainer rings, and not for ever."""

from __future__ import annotations

import asyncio
import math
import socket
from pathlib import Path

from lab_server.files import bell

HEARD_S = 1.0
"""How often to look at a spool whose trainer rings."""

UNHEARD_S = 0.25
"""How often until it has rung: a trainer of an earlier version does not."""


class SpoolBell:
    """Listens from the first wait on. Lives in the event loop's thread.

    What may end a wait beside the trainer calls `ring`, so that a wait is one future and nothing else.

    Args:
        spool: the spool's path.
        poll_s: how often to look where the bell cannot be heard.
    """

    def __init__(self, spool: Path, poll_s: float) -> None:
        self._spool = spool
        self._poll_s = poll_s
        self._listener: socket.socket | None = None
        self._waiting: asyncio.Future[None] | None = None
        # one for many waits: most end before it is due, and making and cancelling one takes a while
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._has_rung = False
        self._is_heard = False

    async def wait(self, timeout_s: float = math.inf) -> None:
        """Return when it is time to look at the spool.

        Args:
            timeout_s: return after so long at the latest; nothing is closer than `poll_s`.
        """
        if self._listener is None:
            self._listen()
            if self._listener is not None:
                return  # what was written before is to be seen now
        if not self._has_rung:
            loop, longest_s = asyncio.get_running_loop(), self._longest_s()
            self._waiting = loop.create_future()
            self._look_at(loop.time() + longest_s)
            sooner = loop.call_later(timeout_s, self.ring) if timeout_s < longest_s else None
            try:
                await self._waiting
            finally:
                if sooner is not None:
                    sooner.cancel()
                self._waiting = None
        self._has_rung = False

    def ring(self) -> None:
        """End the wait now, or the next one."""
        self._has_rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Listen no more; closing twice is fine."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _look_at(self, due_at: float) -> None:
        self._due_at = due_at
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due_at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets it
        if asyncio.get_running_loop().time() < self._due_at:
            self._look_at(self._due_at)
        else:
            self.ring()

    def _longest_s(self) -> float:
        if self._listener is None:
            return self._poll_s
        return HEARD_S if self._is_heard else UNHEARD_S

    def _listen(self) -> None:
        self._listener = bell.listen(self._spool)
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._hear, self._listener)

    def _hear(self, listener: socket.socket) -> None:
        bell.take(listener)
        self._is_heard = True
        self.ring()
