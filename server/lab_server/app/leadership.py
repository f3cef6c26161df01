"""Several servers on one store: one leads, the others read along, and one of them takes over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import structlog

from lab_core.errors import SettingsError
from lab_server.errors import StoreError
from lab_server.files.home import Home
from lab_server.logs import Seldom
from lab_server.settings.settings import Settings
from lab_server.store import SqlStore
from lab_server.supervisor import Supervisor
from lab_server.supervisor.following import Following

_log = structlog.get_logger("lab_server")

EXIT_REPLACED: Final = 75
_INTERVAL_S: Final = 1.0


class SwitchedControl:
    """The run control of a server that may come to lead: first a follower's, then the supervisor."""

    def __init__(self, following: Following) -> None:
        self.current: Following | Supervisor = following

    @property
    def is_leading(self) -> bool:
        """Whether it is the supervisor by now."""
        return isinstance(self.current, Supervisor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)

    async def shut_down(self, *, stop_trainers: bool) -> None:
        """Shut down whichever it is by then."""
        await self.current.shut_down(stop_trainers=stop_trainers)


class Membership:
    """This server among those of its store.

    Args:
        settings: of the server.
        home: its folder; of the servers of one home only one can lead.
        address: where the others reach this one.

    Raises:
        StoreError: If the store cannot be opened.
    """

    def __init__(self, settings: Settings, home: Home, address: str) -> None:
        self._home = home
        self._outages = Seldom()
        if not settings.store:
            self.store = SqlStore(settings.store_url, home.reserve.release)
            return
        self.store = SqlStore(
            settings.store_url,
            server_id=self._server_id(),
            address=address,
            home=home.server_id(),
            may_follow=True,
            when_replaced=exit_replaced,
        )

    async def follow(self, following: Following, lead: Callable[[], Awaitable[None]]) -> None:
        """Read along while another server leads; then lead.

        A server that can do neither ends: it would answer as if all was well.
        """
        try:
            await self._follow(following, lead)
        except Exception:
            _log.exception("cannot follow or lead any more; exiting")
            os._exit(1)

    async def _follow(self, following: Following, lead: Callable[[], Awaitable[None]]) -> None:
        _log.info("following", leader=self.store.leader)
        reading = asyncio.create_task(following.follow())
        try:
            while not await self._try_to_lead():
                await asyncio.wait([reading], timeout=_INTERVAL_S)
                if reading.done() and self.store.leader:
                    await reading  # raises what ended it
            await reading
        finally:
            reading.cancel()
        # what the one before wrote last: nobody but this server can write any more
        while True:
            try:
                await following.read_on()
                await lead()
            except StoreError as error:
                if self._outages.is_due():
                    _log.error("cannot take over yet; trying again", error=str(error))
                await asyncio.sleep(_INTERVAL_S)
            else:
                return

    async def _try_to_lead(self) -> bool:
        try:
            is_leading = await self.store.try_to_lead(self._server_id())
        except StoreError as error:
            if self._outages.is_due():
                _log.warning("cannot look at the leader's lease; trying again", error=str(error))
            return False
        if is_leading:
            _log.info("leading: the lease of the server before is over")
        return is_leading

    def _server_id(self) -> str:
        """Return the home's id if no other server of this home runs: it need not be waited for."""
        return self._home.server_id() if self._home.try_to_lock() else ""


async def started(supervisor: Supervisor) -> Supervisor:
    """Start a supervisor up and return it; one that could not start must not go on beside the next.

    Raises:
        StoreError: If the store cannot be read.
    """
    try:
        await supervisor.start_up()
    except BaseException:
        await supervisor.shut_down(stop_trainers=False)
        raise
    return supervisor


def exit_replaced() -> None:
    """End this process: another server leads, and what this one still did would be refused."""
    _log.error(
        "another server took over the store, as this one did not renew its lease in time;"
        " exiting, the runs go on there"
    )
    os._exit(EXIT_REPLACED)


def peer_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Return how this server connects to the leader: as it is reached itself.

    Raises:
        SettingsError: If a certificate cannot be read.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        ca = settings.peer_ca.read_bytes() if settings.peer_ca else None
        key, cert = settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from None
    return grpc.ssl_channel_credentials(ca, key, cert)
