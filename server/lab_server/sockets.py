"""Sockets that listen."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from lab_core.errors import SettingsError
from lab_server.addresses import Address


@contextlib.contextmanager
def listen(address: Address, name: str = "http") -> Iterator[socket.socket]:
    """Give a TCP socket that listens; connections wait in it until somebody accepts them.

    Args:
        address: where.
        name: the setting that says so.

    Raises:
        SettingsError: If the address cannot be bound.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"cannot listen on {name}={address}: {error.strerror}") from None
    with bound:
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            bound.listen(128)
        except OSError as error:
            raise SettingsError(f"cannot listen on {name}={address}: {error.strerror}") from None
        bound.setblocking(False)
        yield bound
