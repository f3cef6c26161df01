"""How a trainer tells the server that its spool has grown: an empty datagram to a name made of the spool's path.

Only a hint, to spare the server looking many times a second: whoever waits looks by himself now and then. The name
is an abstract one of Linux, so that there is no file that a copy of the folder would take along, or that is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path


class Bell:
    """The trainer's end. Ringing never waits, and never fails: nobody may be there."""

    def __init__(self, spool: Path) -> None:
        self._address = _address(spool)
        self._socket: socket.socket | None = None

    def ring(self) -> None:
        """Wake who listens."""
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(b"", self._address)


def listen(spool: Path) -> socket.socket | None:
    """Return a socket that becomes readable when the bell of a spool rings.

    None where it cannot be had: another server listens, the system knows no such names, or has no file descriptor.
    """
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    listener.setblocking(False)
    try:
        listener.bind(_address(spool))
    except OSError:
        listener.close()
        return None
    return listener


def take(listener: socket.socket) -> None:
    """Take a ring that has come; of more the listener stays readable, which tells no more than one."""
    with contextlib.suppress(BlockingIOError):
        listener.recv(1)


def _address(spool: Path) -> bytes:
    name = f"{os.getuid()}:{spool.absolute()}".encode(errors="surrogateescape")
    return b"\0lab-train/" + hashlib.sha256(name).hexdigest()[:40].encode()
