"""Limits per principal: open streams and live runs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator

from lab_server.errors import LimitReached
from lab_server.model.roles import Principal
from lab_server.model.run import Run


class Limits:
    """Counts open streams by principal; used by the event loop's thread alone.

    Attributes:
        num_ended: how many streams have ended since the server started.
    """

    def __init__(self, *, max_streams: int, max_runs: int) -> None:
        self.num_ended = 0
        self._max_streams = max_streams
        self._max_runs = max_runs
        self._num_streams: Counter[str] = Counter()

    @contextlib.contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            LimitReached: If the principal's limit is reached.
        """
        if self._num_streams[principal.name] >= self._max_streams:
            raise LimitReached(
                f"{principal.name or 'you'} may have at most {self._max_streams} streams open; close some first"
            )
        self._num_streams[principal.name] += 1
        try:
            yield
        finally:
            self.num_ended += 1
            self._num_streams[principal.name] -= 1
            if not self._num_streams[principal.name]:
                del self._num_streams[principal.name]

    def check_runs(self, principal: Principal, live: Iterable[Run]) -> None:
        """Check that a principal may start one more run.

        Args:
            principal: who asks.
            live: all runs that wait or train.

        Raises:
            LimitReached: If the principal's limit is reached.
        """
        if sum(run.owner == principal.name for run in live) >= self._max_runs:
            raise LimitReached(
                f"{principal.name or 'you'} may have at most {self._max_runs} runs queued or training; "
                "wait until one has ended"
            )
