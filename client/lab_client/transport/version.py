"""The client's version, and whether a server of another version can be talked to."""

from __future__ import annotations

from lab_client.errors import IncompatibleServer


def client_version() -> str:
    """Return the version of the installed package; empty when it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, rarely needed

    try:
        return version("lab-train")
    except PackageNotFoundError:
        return ""


def check_version(server: str, address: str) -> None:
    """Raise when a server of this version speaks another protocol: when the major versions differ.

    Raises:
        IncompatibleServer: if so.
    """
    client = client_version()
    ours, theirs = client.partition(".")[0], server.partition(".")[0]
    if ours.isdecimal() and theirs.isdecimal() and ours != theirs:
        raise IncompatibleServer(
            f"the server at {address} has version {server}, this client {client}: "
            f"install a client of its major version: pip install 'lab-train=={theirs}.*'"
        )
