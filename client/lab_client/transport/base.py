"""What the clients of both kinds have in common: where the server is, and how long to wait."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

from lab_client.errors import UnencryptedToken
from lab_client.protocol.retry import Timeouts
from lab_client.transport.target import Target, make_target, token_warning

Shell = TypeVar("Shell")


class BaseClient(Generic[Shell]):
    """A server's address and credentials, and the limits on waiting.

    Args:
        address: HOST:PORT; LAB_SERVER when None, else 127.0.0.1:50051. Several servers of one store
            are written with commas between: when one does not answer, calls and streams go on at the
            next one. `https://` before it encrypts.
        token: LAB_TOKEN when None. Sent to another machine without TLS it warns, `UnencryptedToken`.
        tls: encrypt; when None, LAB_TLS says so, or else `https://`, or that a certificate is given.
        ca: file of the authority to trust (PEM); LAB_CA when None, else the system's.
        cert: file of the client's certificate (PEM), for mTLS; LAB_CERT when None.
        key: file of its key (PEM); LAB_KEY when None.
        timeout_s: for the answer to one call, retries included.
        retry_timeout_s: how long a call that is safe to repeat is repeated while there is no answer.
        reconnect_timeout_s: how long a stream may make no progress before it gives up with
            `Unavailable`; infinity never gives up.
        idle_timeout_s: how long a stream may be silent, without even a heartbeat, before it is
            opened again.

    Raises:
        ConnectionSettingsError: if something of it cannot be used.
    """

    _open_shell: Callable[[Target, Timeouts], Shell]
    """What carries out the calls; the shells of both kinds are made of these two."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        retry_timeout_s: float = 5.0,
        reconnect_timeout_s: float = 120.0,
        idle_timeout_s: float = 60.0,
    ) -> None:
        target = make_target(address, token=token, tls=tls, ca=ca, cert=cert, key=key)
        if warning := token_warning(target):
            warnings.warn(warning, UnencryptedToken, stacklevel=2)
        timeouts = Timeouts(
            timeout_s=timeout_s,
            retry_timeout_s=retry_timeout_s,
            reconnect_timeout_s=reconnect_timeout_s,
            idle_timeout_s=idle_timeout_s,
        )
        self._address = target.address
        self._shell = self._open_shell(target, timeouts)

    @property
    def address(self) -> str:
        """The server's address, HOST:PORT, or several with commas between."""
        return self._address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"
