"""The agent's lease: renewed by the server's answers, written down for the trainers, and noticed when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from lab_server.files.lease import Lease, now_s

_log = structlog.get_logger("lab_agent")


class KeptLease:
    """Until when the trainers here may go on. The agent's loop owns it.

    Args:
        path: where the trainers read it.
        on_over: called when it is over, before the server gives the agent up.

    Attributes:
        length_s: for how long the server gives it; 0 before the first server.
    """

    def __init__(self, path: Path, on_over: Callable[[Lease], None]) -> None:
        self._path = path
        self._on_over = on_over
        self._lease: Lease | None = None
        self.length_s = 0.0

    def begin(self, sent_s: float, length_s: float) -> None:
        """Have a lease until the first ping is answered.

        Args:
            sent_s: when the hello was sent that a server has answered.
            length_s: for how long it is.
        """
        self.length_s = length_s
        self.renew(sent_s)

    def renew(self, sent_s: float) -> None:
        """Renew it, from when a ping was sent that is answered now."""
        self._lease = Lease.from_ping(sent_s, self.length_s)
        try:
            self._lease.write(self._path)
        except OSError as error:
            # the trainers go by the last one: they stop too early, not too late
            _log.error("cannot write the lease; trying again", reason=error.strerror)

    async def watch(self) -> None:
        """Notice when it is over, each time."""
        while True:
            lease = self._lease
            left_s = 1.0 if lease is None else lease.stop_at_s - now_s()
            if left_s > 0:
                # a wait of the event loop may sleep with the machine: look again soon
                await asyncio.sleep(min(left_s, 1.0))
                continue
            assert lease is not None
            self._lease = None
            self._on_over(lease)
