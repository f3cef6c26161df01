"""A network that fails on demand: a Unix socket that relays to another one."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path


class Network:
    """Relays connections; each fault lasts until the next change.

    Attributes:
        delay_s: how long each piece of data is under way.
    """

    def __init__(self, listen: Path, target: Path) -> None:
        self._target = target
        self.delay_s = 0.0
        self._is_dropping = False
        self._is_down = False
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(listen))
        self._listening.listen(64)
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

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        ends = {client: server, server: client}
        self._open |= set(ends)
        try:
            if self._is_down:
                return
            server.connect(str(self._target))
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
