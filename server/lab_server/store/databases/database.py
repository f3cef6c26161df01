"""What differs between the databases that a SqlStore works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from lab_server.errors import StoreError
from lab_server.store.databases.members import Member

NUM_READERS = 4


class Database(Protocol):
    """An open database.

    Attributes:
        write_engine: with one connection, for the thread that writes.
        read_engine: with NUM_READERS connections that only read, each transaction from one moment.
        place: where it is, without a password, as messages name it.
    """

    write_engine: sa.Engine
    read_engine: sa.Engine
    place: str

    def members(self, connection: Connection) -> tuple[Member, ...]:
        """Return every server of the database that is known; none where there can be only one."""

    def time_s(self, connection: Connection) -> float:
        """Return the time that all servers of the database have in common, in seconds since 1970."""

    def begin(self, connection: Connection) -> None:
        """Begin a transaction on the connection that writes."""

    def commit(self, connection: Connection) -> None:
        """Commit it."""

    @property
    def lease_age_s(self) -> float:
        """Seconds since the lease of this server was renewed; 0 without one."""

    def exclude_others(self, connection: Connection) -> None:
        """Let no other server prepare its store until this transaction has ended."""

    def join(self, server_id: str = "", when_replaced: Callable[[], None] = lambda: None) -> str:
        """Become the one that writes, unless another server does; return that one's address, or "".

        Args:
            server_id: the same for servers of which only one can run: it need not wait for its own
                lease after a crash.
            when_replaced: called in some thread when another server has become the one that writes.
        """

    def check_in(self, connection: Connection) -> None:
        """Make sure, in a transaction that is about to be committed, that this server may write.

        Raises:
            StoreError: If another server took over.
        """

    def announce(self, connection: Connection) -> None:
        """Wake those who wait for events, when this transaction is committed."""

    def wait_for_events(self, timeout_s: float) -> None:
        """Return when another server has committed events, or after some time."""

    def was_committed(self) -> bool:
        """Return whether the last transaction that checked in took place, though nobody answered.

        Raises:
            DBAPIError: If the database cannot be reached.
        """

    def set_next_id(self, connection: Connection, table: sa.Table) -> None:
        """Give new rows of a table ids above those of the rows that were copied into it."""

    def is_outage(self, error: BaseException) -> bool:
        """Return whether an error says that the database is out of reach."""

    def error(self, error: DBAPIError) -> StoreError:
        """Return what went wrong, in a sentence."""

    def close(self) -> None:
        """Close all connections; another server may write then."""
