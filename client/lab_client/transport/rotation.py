"""Which of several servers of one store is asked: the next one when one does not answer."""

from __future__ import annotations

from lab_client.transport.target import Target


class Rotation:
    """The servers, one of which is the current one. Used by one thread or under a lock."""

    def __init__(self, target: Target) -> None:
        self._servers = target.servers()
        self._current = 0

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def current(self) -> Target:
        """The server to ask now."""
        return self._servers[self._current]

    def note_failure(self, server: Target) -> None:
        """Go on to the next server if this one, which did not answer, is still the current one."""
        if server is self.current:
            self._current = (self._current + 1) % len(self._servers)
