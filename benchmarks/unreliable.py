"""A network that fails on demand: a socket that relays to another one, by TCP or on this machine alone."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path

Place = Path | str
"""The path of a Unix socket, or HOST:PORT."""


class Network:
    """Relays connections; each fault lasts until the next change.

    Args:
        listen: where to; port 0 for any that is free.
        target: where connections go on to.

    Attributes:
        address: where it listens.
        delay_s: how long each piece of data is under way.
    """

    def __init__(self, listen: Place, target: Place) -> None:
        self._target = target
        self.delay_s = 0.0
        self._is_dropping = False
        self._is_down = False
        self._open: set[socket.socket] = set()
        self._listening, to = _socket_for(listen)
        self._listening.bind(to)
        self._listening.listen(64)
        name = self._listening.getsockname()
        self.address = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all connections; new ones are refused until `mend`."""
        self._is_down = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Lose all data from now on, in both directions, without a word; connections stay open."""
        self._is_dropping = True

    def mend(self) -> None:
        """Relay again; connections that lost data are cut, as they would be in the end."""
        had_lost, self._is_dropping = self._is_dropping, False
        if had_lost:
            self.cut()
        self._is_down, self.delay_s = False, 0.0

    def begin(self, how: str) -> None:
        """Begin to fail: a cut network, a slow one, or a lossy one, as the words say."""
        if "cut" in how:
            self.cut()
        elif "slow" in how:
            self.delay_s = 0.1
        else:
            self.drop()

    def fail(self, how: str, for_s: float) -> None:
        """Fail for a while; see `begin`."""
        self.begin(how)
        time.sleep(for_s)
        self.mend()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server, to = _socket_for(self._target)
        ends = {client: server, server: client}
        self._open |= set(ends)
        try:
            if self._is_down:
                return
            server.connect(to)
            while True:
                for end in select.select(list(ends), [], [], 1.0)[0]:
                    data = end.recv(1 << 16)
                    if not data or self._is_down:
                        return
                    if self.delay_s:
                        time.sleep(self.delay_s)
                    if not self._is_dropping:
                        ends[end].sendall(data)
        except OSError:
            pass
        finally:
            self._open -= set(ends)
            for end in ends:
                end.close()


def _socket_for(place: Place) -> tuple[socket.socket, str | tuple[str, int]]:
    if isinstance(place, Path):
        return socket.socket(socket.AF_UNIX), str(place)
    host, _, port = place.rpartition(":")
    return socket.socket(), (host, int(port))
