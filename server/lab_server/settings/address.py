"""Where a server listens: HOST:PORT, and the socket that listens there."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from lab_core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port.

    Attributes:
        host: a name or an IP address, an IPv6 one without its brackets.
        port: 0 lets the system choose a free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that "HOST:PORT", "[IPV6]:PORT" or ":PORT" (all interfaces) names.

        Raises:
            ValueError: If the text is none of these.
        """
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:50051")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: write an IPv6 address in brackets, such as [::1]:{port}")
        return cls(host or "0.0.0.0", int(port))  # noqa: S104 - said by ":PORT", and refused without TLS

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> Address:
        """Return the same host with another port."""
        return Address(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@contextlib.contextmanager
def listen(address: Address, name: str = "http") -> Iterator[socket.socket]:
    """Open a listening TCP socket; connections wait in its backlog until they are accepted.

    Args:
        address: where.
        name: of the setting, for the error.

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
    failure = OSError(0, "the host has no address")
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
