"""SQLite's side of a SqlStore: connections, the lock on the file, and error messages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from lab_server.errors import StoreError
from lab_server.files.lock import lock
from lab_server.store.databases.database import NUM_READERS
from lab_server.store.databases.members import Member
from lab_server.store.portable.prepared import driver_of, execute_in_sqlite

_BEGIN: Final = "BEGIN IMMEDIATE"
_DISK_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


class SqliteDatabase:
    """A file; the lock beside it keeps a second server out.

    Raises:
        StoreError: If the file cannot be opened, or is another server's.
    """

    def __init__(self, url: sa.URL, make_room: Callable[[], bool]) -> None:
        self.place = url.database or ""
        self._lock_fd = lock(f"{self.place}.lock")
        self.write_engine = _engine(url, is_writer=True)
        self.read_engine = _engine(url, is_writer=False)
        try:
            self._open(make_room)
        except DBAPIError as error:
            self.close()
            raise self.error(error) from error

    def _open(self, make_room: Callable[[], bool]) -> None:
        for is_last_try in (False, True):
            try:
                # the first transaction makes SQLite's other files, for which a full disk has no room
                with self.write_engine.begin():
                    return
            except DBAPIError:
                if is_last_try or not make_room():
                    raise

    def time_s(self, connection: Connection) -> float:  # noqa: ARG002
        """See Database."""
        return time.time()

    def members(self, connection: Connection) -> tuple[Member, ...]:  # noqa: ARG002
        """See Database; there is only this server."""
        return ()

    def begin(self, connection: Connection) -> None:
        """See Database; SQLAlchemy only notices when it is to execute something itself."""
        execute_in_sqlite(connection, _BEGIN)

    def commit(self, connection: Connection) -> None:
        """See Database."""
        if connection.in_transaction():
            connection.commit()
        else:
            execute_in_sqlite(connection, "COMMIT")

    @property
    def lease_age_s(self) -> float:
        """See Database."""
        return 0.0

    def exclude_others(self, connection: Connection) -> None:
        """See Database; the lock is held since the file was opened."""

    def join(self, server_id: str = "", when_replaced: Callable[[], None] = lambda: None) -> str:  # noqa: ARG002
        """See Database; the lock is held, so there is no other."""
        return ""

    def check_in(self, connection: Connection) -> None:
        """See Database; nobody can take over while the lock is held."""

    def announce(self, connection: Connection) -> None:
        """See Database; nobody waits."""

    def wait_for_events(self, timeout_s: float) -> None:
        """See Database; there are no other servers."""

    def was_committed(self) -> bool:
        """See Database; a commit that failed has not taken place."""
        return False

    def set_next_id(self, connection: Connection, table: sa.Table) -> None:
        """See Database; SQLite remembers the highest by itself."""

    def is_outage(self, error: BaseException) -> bool:  # noqa: ARG002
        """See Database; one write may have no room and a smaller one some."""
        return False

    def error(self, error: DBAPIError) -> StoreError:
        """See Database."""
        if getattr(error.orig, "sqlite_errorname", "") in _DISK_FULL:
            return StoreError("the disk of the server is full: free some space and try again")
        return StoreError(f"the store failed: {error.orig}")

    def close(self) -> None:
        """See Database."""
        self.read_engine.dispose()
        self.write_engine.dispose()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _engine(url: sa.URL, *, is_writer: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if is_writer else NUM_READERS,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": 10.0},
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        pragmas = ["foreign_keys=ON"] if is_writer else ["query_only=ON"]
        if is_writer:
            pragmas = ["journal_mode=WAL", "synchronous=FULL", *pragmas]
            pragmas += [f"journal_size_limit={64 << 20}"]
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # the driver's own transactions begin too late to be read-consistent
        if not is_writer:
            execute_in_sqlite(connection, "BEGIN")
        elif not driver_of(connection).in_transaction:
            execute_in_sqlite(connection, _BEGIN)

    return engine
