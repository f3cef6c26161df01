"""Which database a URL means."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from lab_server.errors import StoreRefused
from lab_server.store.databases.database import Database
from lab_server.store.databases.sqlite import SqliteDatabase


def open_database(
    url: str, make_room: Callable[[], bool], address: str, home: str = ""
) -> Database:
    """Return the database of a URL.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE".
        make_room: frees disk space and says whether it could; for SQLite, which needs some to open.
        address: where this server is reached, for a database that others can reach, too.
        home: the id of its home, for the same.

    Raises:
        StoreRefused: If the URL is none of these, or the database lets nobody in.
        StoreError: If the database is in use.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    match parsed.get_backend_name() if parsed is not None else "":
        case "sqlite" if parsed is not None and parsed.database:
            return SqliteDatabase(parsed, make_room)
        case "postgresql" | "postgres" if parsed is not None:
            # its part of SQLAlchemy takes longer to import than a SQLite file to open
            from lab_server.store.databases.postgresql import PostgresDatabase

            return PostgresDatabase(parsed, address, home)
    raise StoreRefused(
        "a store is postgresql://USER@HOST/DATABASE, or a SQLite file such as"
        f" sqlite:////var/lib/lab.db, not {_without_password(url, parsed)!r}"
    )


def _without_password(url: str, parsed: sa.URL | None) -> str:
    return url.rpartition("@")[2] if parsed is None else parsed.render_as_string()
