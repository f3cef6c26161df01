"""SQLite's side of a SqlStore: connections, the lock on the file, and error messages."""

from __future__ import annotations

import fcntl
import os
import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from lab_server.errors import StoreError

NUM_READERS: Final = 4
_LOCK_WAIT_S: Final = 5.0
_DISK_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


def open_engine(url: sa.URL, *, is_writer: bool) -> sa.Engine:
    """Return an engine with one connection that writes, or with several that only read."""
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
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def lock(path: str) -> int:
    """Take the lock of the file; a server that was just killed may hold it a moment longer."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"the store cannot be opened: {error}") from error
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(fd)
                folder = os.path.dirname(path)
                raise StoreError(
                    f"another server is using {folder}; stop it, or choose another home"
                ) from error
            time.sleep(0.02)
        else:
            return fd


def store_error(error: DBAPIError) -> StoreError:
    """Return what went wrong in a sentence."""
    text = str(error.orig)
    if getattr(error.orig, "sqlite_errorname", "") in _DISK_FULL:
        return StoreError("the disk of the server is full: free some space and try again")
    return StoreError(f"the store failed: {text}")
