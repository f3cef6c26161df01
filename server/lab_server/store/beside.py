"""What commands do in a store beside the server that uses it: short, and no business of the server's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from lab_server.errors import StoreRefused
from lab_server.store import migrations, schema
from lab_server.store.databases.urls import check_is_there, is_sqlite, parse_url

T = TypeVar("T")


def beside_the_server(url: str, work: Callable[[Connection], T]) -> T:
    """Run work in a transaction of its own.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE".
        work: what to do; the server waits for it.

    Raises:
        StoreRefused: If there is no store of this version, or it cannot be opened.
    """
    parsed = parse_url(url)
    check_is_there(parsed)
    if is_sqlite(parsed):
        engine = sa.create_engine(parsed, connect_args={"timeout": 10.0})
    else:
        from lab_server.store.databases.postgresql import with_driver

        engine = sa.create_engine(with_driver(parsed))
    place = parsed.set(query={}).render_as_string()
    try:
        with engine.begin() as connection:
            if migrations.revision_of(connection) != schema.SCHEMA_REVISION:
                raise StoreRefused(
                    f"{place} is no store of this version; start a server on it once"
                )
            return work(connection)
    except DBAPIError as error:
        raise StoreRefused(f"cannot use the store {place}: {error.orig}") from error
    finally:
        engine.dispose()
