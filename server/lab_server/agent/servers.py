"""Where an agent finds its servers: at the addresses that it was given, or as its own server says."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Servers(Protocol):
    """The servers of an agent."""

    def addresses(self) -> Sequence[str]:
        """Return where they are now, in the order in which they are to be tried."""

    def learn(self, addresses: Sequence[str]) -> None:
        """Take note of what a server says where the servers of its store are."""


class GivenServers:
    """Servers at addresses that whoever started the agent knows best."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)

    def addresses(self) -> Sequence[str]:
        """See Servers."""
        return self._addresses

    def learn(self, addresses: Sequence[str]) -> None:
        """See Servers; one that is given may be another name or a proxy of one that is told."""


class HostServers:
    """The servers of this host's home, by their sockets, and then the others of their store.

    The sockets are in a folder that only this user can enter, so they need no TLS. The other servers are
    written down, so that an agent that is started again while no server runs here knows them, too.

    Args:
        folder: in which each server of the home has its socket, which ends with ".sock".
        file: of the others.
    """

    def __init__(self, folder: Path, file: Path) -> None:
        self._folder, self._file = folder, file
        # a path to a socket has at most 107 bytes, and one below this is short
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def addresses(self) -> Sequence[str]:
        """See Servers."""
        sockets: list[str] = []
        with contextlib.suppress(OSError):  # who asks for them asks again
            sockets = sorted(path.name for path in self._folder.iterdir() if path.suffix == ".sock")
        return [
            *(f"unix:/proc/self/fd/{self._folder_fd}/{name}" for name in sockets),
            *self._known(),
        ]

    def learn(self, addresses: Sequence[str]) -> None:
        """See Servers."""
        if list(addresses) != self._known():
            draft = self._file.with_name(f".{self._file.name}.new")
            with contextlib.suppress(OSError):  # a full disk: it is told again
                draft.write_text(json.dumps(list(addresses)))
                draft.replace(self._file)

    def _known(self) -> list[str]:
        try:
            return [str(address) for address in json.loads(self._file.read_text())]
        except (OSError, ValueError):
            return []
