"""Which servers a store has: a row of each in `members`, which it renews while it lives.

A server writes only its own row, whether it leads or follows. The last row of a home stays when its server has
ended: it tells where the home's files were served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, select

from lab_server.store import schema

_members = schema.members


@dataclass(frozen=True, slots=True)
class Member:
    """A server of a store.

    Attributes:
        home: the id of its home.
        address: where other servers reach it.
        is_live: whether it renewed its row in time.
    """

    home: str
    address: str
    is_live: bool


class Membership:
    """The row of one server.

    Args:
        session: the server's, as it runs now.
        home: the id of its home, "" for none.
        address: where other servers reach it.
        now_ms: the database's clock.
        lease_ms: for how long a row is good.
    """

    def __init__(
        self, session: str, home: str, address: str, now_ms: ColumnElement[int], lease_ms: int
    ) -> None:
        self._session, self._home, self._address = session, home, address
        self._now_ms, self._lease_ms = now_ms, lease_ms
        self._is_ours: Final = _members.c.session == session

    def renew(self, connection: Connection) -> None:
        """Write the row, and remove those of earlier servers of the home."""
        until = self._now_ms + self._lease_ms
        renewed = _members.update().where(self._is_ours).values(lease_until_ms=until)
        if connection.execute(renewed).rowcount:
            return
        is_over = (_members.c.home == self._home) & (_members.c.lease_until_ms < self._now_ms)
        connection.execute(_members.delete().where(is_over))
        row = {"session": self._session, "home": self._home, "address": self._address}
        connection.execute(_members.insert().values(**row, lease_until_ms=until))

    def end(self, connection: Connection) -> None:
        """Note that the server has ended; where its home was stays known."""
        if self._home:
            ended = _members.update().where(self._is_ours).values(lease_until_ms=0)
            connection.execute(ended)
        else:
            connection.execute(_members.delete().where(self._is_ours))

    def all(self, connection: Connection) -> tuple[Member, ...]:
        """Return every server that is known, those that live first."""
        is_live = _members.c.lease_until_ms > self._now_ms
        query = select(_members.c.home, _members.c.address, is_live).order_by(
            is_live.desc(), _members.c.address
        )
        return tuple(Member(*row) for row in connection.execute(query))
