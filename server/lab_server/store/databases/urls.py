"""Which database a URL means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from lab_server.errors import StoreRefused
from lab_server.store.databases.database import Database
from lab_server.store.databases.sqlite import SqliteDatabase

_SQLITE = "sqlite"
_POSTGRESQL = ("postgresql", "postgres")


def parse_url(url: str) -> sa.URL:
    """Return the parts of a store's URL.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE".

    Raises:
        StoreRefused: If it is none of these.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        shown = url.rpartition("@")[2]
    else:
        backend = parsed.get_backend_name()
        if backend in _POSTGRESQL or (backend == _SQLITE and parsed.database):
            return parsed
        shown = parsed.set(query={}).render_as_string()
    raise StoreRefused(
        "a store is postgresql://USER@HOST/DATABASE, or a SQLite file such as"
        f" sqlite:////var/lib/lab.db, not {shown!r}"
    )


def is_sqlite(url: sa.URL) -> bool:
    """Whether a store is a SQLite file."""
    return url.get_backend_name() == _SQLITE


def check_is_there(url: sa.URL) -> None:
    """Check that a store that is not to be made is there: SQLite would make one.

    Raises:
        StoreRefused: If it is a file, and there is none.
    """
    if is_sqlite(url) and not Path(url.database or "").is_file():
        raise StoreRefused(f"there is no store at {url.render_as_string()}")


def open_database(
    url: str, make_room: Callable[[], bool], address: str, home: str = ""
) -> Database:
    """Return the database of a URL.

    Args:
        url: as `parse_url` takes it.
        make_room: frees disk space and says whether it could; for SQLite, which needs some to open.
        address: where this server is reached, for a database that others can reach, too.
        home: the id of its home, for the same.

    Raises:
        StoreRefused: If the URL is none, or the database lets nobody in.
        StoreError: If the database is in use.
    """
    parsed = parse_url(url)
    if is_sqlite(parsed):
        return SqliteDatabase(parsed, make_room)
    # its part of SQLAlchemy takes longer to import than a SQLite file to open
    from lab_server.store.databases.postgresql import PostgresDatabase

    return PostgresDatabase(parsed, address, home)
