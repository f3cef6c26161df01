"""PostgreSQL's side of a SqlStore: connections, who may write, and commits without an answer.

The server that writes has the one row in `servers`. Every transaction that it writes updates that row, so
- a server whose row another one replaced cannot commit any more, however late it wakes up;
- the row tells whether a transaction took place whose answer was lost.

A server that is frozen in a transaction holds that row: whoever replaces it ends its connections.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import DBAPIError, OperationalError

from lab_server.errors import StoreError, StoreRefused
from lab_server.store import schema
from lab_server.store.databases.database import NUM_READERS
from lab_server.store.databases.members import Member, Membership

LEASE_S: Final = 7.0
"""A server that has not been heard of for so long may be replaced."""

CHANNEL: Final = "lab_events"
"""Of the notifications that tell of new events."""

_RENEWALS_A_LEASE: Final = 4
_CONNECT_ARGS: Final = {
    "connect_timeout": 5,
    # a peer that is gone without a word is noticed in about ten seconds
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_JOIN_LOCK: Final = 0x6C61622D7472  # any number that means us among advisory locks

_servers = schema.servers
_IS_OURS: Final = _servers.c.session == sa.bindparam("own_session")
_CHECK_IN: Final = _servers.update().where(_IS_OURS).values(last_commit=sa.bindparam("number"))
_NOTIFY: Final = select(func.pg_notify(CHANNEL, ""))
_LAST_COMMIT: Final = select(_servers.c.last_commit).where(_IS_OURS).with_for_update()
# the database's clock, so that the servers' own may differ
_NOW_MS: Final = sa.cast(
    sa.extract("epoch", func.clock_timestamp()) * 1000, sa.BigInteger
)  # not now(), which is when the transaction began
_RENEW: Final = (
    _servers.update().where(_IS_OURS).values(lease_until_ms=_NOW_MS + int(LEASE_S * 1000))
)
_END_BACKEND: Final = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid = :pid AND application_name = :name"
)
_BOUND_WAIT: Final = sa.text("SET LOCAL lock_timeout = '1s'")
_END_BACKENDS: Final = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE usename = current_user AND application_name IN (:writer, :lease)"
)


class PostgresDatabase:
    """A PostgreSQL database that one server at a time writes to, and others read.

    Args:
        url: its password may also come as libpq takes it, from PGPASSWORD or ~/.pgpass.
        address: where other servers reach this one.
        home: the id of this one's home, "" for none.

    Raises:
        StoreRefused: If the driver is not installed or the database cannot be reached.
    """

    def __init__(self, url: sa.URL, address: str = "", home: str = "") -> None:
        self.place = url.set(drivername="postgresql", query={}).render_as_string()
        url = with_driver(url)
        self._address = address or socket.gethostname()
        self._session = secrets.token_hex(8)
        self._membership = Membership(
            self._session, home, self._address, _NOW_MS, int(LEASE_S * 1000)
        )
        self._writer_name, lease_name = _names(self._session)
        self.write_engine = _engine(url, self._writer_name, pool_size=1)
        self.read_engine = _engine(url, "lab-server reader", pool_size=NUM_READERS, reads_only=True)
        # to renew the lease, to look for another server's, and to listen: none waits for one that hangs
        self._other_engine = _engine(url, lease_name, pool_size=3)
        self._listening: Connection | None = None
        # of the last transaction that checked in: its number, and the process that serves it
        self._number = 0
        self._backend_pid = 0
        self._is_member = False
        self._has_joined = False
        self._renewed_at = 0.0
        self._when_replaced: Callable[[], None] = lambda: None
        self._is_closing = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="store-lease", daemon=True)
        try:
            with self.read_engine.connect():
                pass
        except DBAPIError as error:
            self.close()
            raise StoreRefused(str(self.error(error))) from error

    def begin(self, connection: Connection) -> None:
        """See Database."""
        connection.begin()

    def commit(self, connection: Connection) -> None:
        """See Database."""
        connection.commit()

    def exclude_others(self, connection: Connection) -> None:
        """See Database."""
        connection.execute(select(func.pg_advisory_xact_lock(_JOIN_LOCK)))

    def join(self, server_id: str = "", when_replaced: Callable[[], None] = lambda: None) -> str:
        """See Database."""
        server_id = server_id or self._session
        if not self._is_member:
            with self._other_engine.begin() as connection:
                self._membership.renew(connection)
            self._is_member = True
            self._renewer.start()
        is_live = (_servers.c.lease_until_ms > _NOW_MS) & (_servers.c.id != server_id)
        writer = select(_servers.c.address).where(is_live)
        with self._other_engine.connect() as connection:
            if address := connection.execute(writer).scalar():
                return str(address)
        with self._other_engine.begin() as connection:
            self.exclude_others(connection)
            if address := connection.execute(writer).scalar():
                return str(address)
            self._remove_writer(connection)
            connection.execute(
                _servers.insert().values(
                    id=server_id,
                    session=self._session,
                    address=self._address,
                    lease_until_ms=_NOW_MS + int(LEASE_S * 1000),
                    last_commit=0,
                )
            )
        self._renewed_at = time.monotonic()
        self._has_joined = True
        self._when_replaced = when_replaced
        return ""

    def _remove_writer(self, connection: Connection) -> None:
        """Let the one before commit no more, once its transaction has ended; one that is frozen is ended."""
        try:
            with connection.begin_nested():
                connection.execute(_BOUND_WAIT)
                connection.execute(_servers.delete())
        except OperationalError:
            others = select(_servers.c.session).where(_servers.c.session != self._session)
            for session in connection.scalars(others).all():
                writer, lease = _names(session)
                connection.execute(_END_BACKENDS, {"writer": writer, "lease": lease})
            connection.execute(_servers.delete())

    def check_in(self, connection: Connection) -> None:
        """See Database."""
        self._number += 1
        self._backend_pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        if connection.execute(_CHECK_IN, self._own | {"number": self._number}).rowcount != 1:
            raise StoreError(
                "another server took over the store; this one can write no more"
                if self._has_joined
                else "another server writes to the store; this one only reads"
            )

    def announce(self, connection: Connection) -> None:
        """See Database."""
        connection.execute(_NOTIFY)

    def wait_for_events(self, timeout_s: float) -> None:
        """See Database; what is notified between two calls ends the second one at once."""
        import psycopg

        try:
            if self._listening is None:
                self._listening = self._other_engine.connect()
                raw = self._raw(self._listening)
                raw.autocommit = True
                raw.execute(f"LISTEN {CHANNEL}")
            for _ in self._raw(self._listening).notifies(timeout=timeout_s, stop_after=1):
                pass
        except psycopg.Error as error:  # SQLAlchemy does not see these
            self._stop_listening()
            raise self.error(OperationalError(None, None, error)) from error

    @staticmethod
    def _raw(connection: Connection) -> Any:
        return connection.connection.dbapi_connection

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.invalidate()  # its settings are not those of the others
            listening.close()

    def was_committed(self) -> bool:
        """See Database."""
        with self.write_engine.begin() as connection:
            # a COMMIT that is still on its way must not arrive after the answer
            connection.execute(_END_BACKEND, {"pid": self._backend_pid, "name": self._writer_name})
        with self.write_engine.begin() as connection:
            # the row is locked until the other transaction has ended
            return connection.execute(_LAST_COMMIT, self._own).scalar() == self._number

    def set_next_id(self, connection: Connection, table: sa.Table) -> None:
        """See Database."""
        column = table.autoincrement_column
        if column is not None:
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            highest = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
            connection.execute(select(func.setval(sequence, highest, False)))

    def is_outage(self, error: BaseException) -> bool:
        """See Database."""
        return isinstance(error, DBAPIError) and (
            error.connection_invalidated or isinstance(error, OperationalError)
        )

    def error(self, error: DBAPIError) -> StoreError:
        """See Database."""
        text = " ".join(str(error.orig).split())
        if self.is_outage(error):
            return StoreError(f"the store {self.place} cannot be reached: {text}")
        return StoreError(f"the store failed: {text}")

    def close(self) -> None:
        """See Database."""
        self._is_closing.set()
        if self._is_member:
            self._renewer.join()
            self._is_member = self._has_joined = False
            with contextlib.suppress(DBAPIError), self._other_engine.begin() as connection:
                connection.execute(_servers.delete().where(_IS_OURS), self._own)
                self._membership.end(connection)
        self._stop_listening()
        for engine in (self.read_engine, self.write_engine, self._other_engine):
            engine.dispose()

    def time_s(self, connection: Connection) -> float:
        """See Database."""
        return int(connection.execute(select(_NOW_MS)).scalar_one()) / 1000

    def members(self, connection: Connection) -> tuple[Member, ...]:
        """See Database."""
        return self._membership.all(connection)

    @property
    def lease_age_s(self) -> float:
        """See Database."""
        return time.monotonic() - self._renewed_at if self._has_joined else 0.0

    @property
    def _own(self) -> dict[str, Any]:
        return {"own_session": self._session}

    def _renew(self) -> None:
        while not self._is_closing.wait(LEASE_S / _RENEWALS_A_LEASE):
            has_joined = self._has_joined
            try:
                with self._other_engine.begin() as connection:
                    is_ours = connection.execute(_RENEW, self._own).rowcount == 1
                with self._other_engine.begin() as connection:
                    self._membership.renew(connection)
            except DBAPIError:
                continue  # the writer says it; a lease that nobody takes can be renewed later
            self._renewed_at = time.monotonic()
            if has_joined and not is_ours:
                self._when_replaced()
                return


def with_driver(url: sa.URL) -> sa.URL:
    """Return a URL that names the driver.

    Raises:
        StoreRefused: If the driver is not installed.
    """
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise StoreRefused(
            "a store on PostgreSQL needs: pip install 'lab-train[postgresql]'"
        ) from None
    return url.set(drivername="postgresql+psycopg")


def _names(session: str) -> tuple[str, str]:
    """Return what a server's connections are called in the database: that which writes, and those of the lease."""
    return f"lab-server writer {session}", f"lab-server lease {session}"


def _engine(url: sa.URL, name: str, *, pool_size: int, reads_only: bool = False) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        isolation_level="REPEATABLE READ" if reads_only else "READ COMMITTED",
        connect_args=_CONNECT_ARGS | {"application_name": name},
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        settings = ["jit = off", "idle_in_transaction_session_timeout = '30s'"]
        if reads_only:
            settings += ["default_transaction_read_only = on"]
        connection.autocommit = True
        for setting in settings:
            connection.execute(f"SET {setting}")
        connection.autocommit = False

    return engine
