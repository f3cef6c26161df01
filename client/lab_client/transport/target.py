"""Where the servers are and how to prove who asks: from arguments, else from the environment."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab_client.errors import ConnectionSettingsError

DEFAULT_ADDRESS = "127.0.0.1:50051"
_DEFAULT_PORT = 50051
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, or several that share a store, and how to talk to them.

    Attributes:
        address: HOST:PORT, or several with commas between.
        token: sent with every call; empty for none. Never shown.
        is_tls: whether the connection is encrypted.
        ca: PEM of the authority to trust; None trusts the system's.
        cert: PEM of the client's certificate, for mTLS.
        key: PEM of its key. Never shown.
    """

    address: str
    token: str = field(default="", repr=False)
    is_tls: bool = False
    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    def servers(self) -> tuple[Target, ...]:
        """Return each server by itself."""
        return tuple(replace(self, address=address) for address in self.address.split(","))


def token_warning(target: Target) -> str:
    """Return what is wrong with sending the token there, such as that others can read it; or ""."""
    if not target.token or target.is_tls:
        return ""
    open_to_others = [s.address for s in target.servers() if not _is_local(s.address)]
    if not open_to_others:
        return ""
    return (
        f"the token is sent to {', '.join(open_to_others)} unencrypted, where others can read it; "
        "use TLS: set LAB_CA, or LAB_TLS=1"
    )


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:") or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def make_target(
    address: str | None = None,
    *,
    token: str | None = None,
    tls: bool | None = None,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Target:
    """Return the target; what is None comes from LAB_SERVER, LAB_TOKEN, LAB_TLS, LAB_CA, LAB_CERT, LAB_KEY.

    Raises:
        ConnectionSettingsError: if something of it cannot be used.
    """
    environment = os.environ
    address = address or environment.get("LAB_SERVER") or DEFAULT_ADDRESS
    ca = ca or environment.get("LAB_CA") or None
    cert = cert or environment.get("LAB_CERT") or None
    key = key or environment.get("LAB_KEY") or None
    if token is None:
        token = environment.get("LAB_TOKEN", "")
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise ConnectionSettingsError("the token has characters that no token has; copy it again")
    if tls is None:
        is_expected = bool(ca or cert) or "https://" in address
        tls = _flag("LAB_TLS", environment.get("LAB_TLS"), default=is_expected)
    if bool(cert) != bool(key):
        raise ConnectionSettingsError("a client certificate needs both: cert= and key=")
    if not tls and (ca or cert):
        raise ConnectionSettingsError("ca=, cert= and key= are for TLS; tls=False forbids it")
    addresses = dict.fromkeys(
        _with_port(part.strip()) for part in address.split(",") if part.strip()
    )
    return Target(
        ",".join(addresses) or DEFAULT_ADDRESS,
        token,
        tls,
        _read("ca", ca),
        _read("cert", cert),
        _read("key", key),
    )


def _with_port(address: str) -> str:
    for scheme in ("grpc://", "http://", "https://"):
        address = address.removeprefix(scheme)
    address = address.rstrip("/")
    if address.startswith("unix:"):
        return address
    if address.startswith("[") and address.endswith("]"):
        return f"{address}:{_DEFAULT_PORT}"
    host, separator, port = address.rpartition(":")
    if not separator:
        return f"{address}:{_DEFAULT_PORT}"
    if ":" in host and not host.startswith("["):  # an IPv6 address without brackets has no port
        return f"[{address}]:{_DEFAULT_PORT}"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConnectionSettingsError(
            f"{address!r} is not an address; write it as HOST:PORT, such as {DEFAULT_ADDRESS}"
        )
    return address


def _flag(name: str, text: str | None, *, default: bool) -> bool:
    if text is None:
        return default
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ConnectionSettingsError(f"{name} is {text!r}; set it to 1 or 0")


def _read(name: str, path: str | os.PathLike[str] | None) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConnectionSettingsError(f"{name}: cannot read {path}: {error.strerror}") from None
