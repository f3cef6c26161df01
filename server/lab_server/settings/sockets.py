"""Sockets that listen."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from lab_core.errors import SettingsError
from lab_server.settings.address import Address


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
        bound = _bound(address)
    except OSError as error:
        raise SettingsError(f"cannot listen on {name}={address}: {error.strerror}") from None
    with bound:
        yield bound


def _bound(address: Address) -> socket.socket:
    places = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    failure = OSError(0, "it has no address")
    for family, kind, protocol, _, where in places:
        # a name may stand for an IPv6 address that the machine does not have
        try:
            bound = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            bound.listen(128)
            bound.setblocking(False)
        except OSError as error:
            bound.close()
            failure = error
        else:
            return bound
    raise failure
