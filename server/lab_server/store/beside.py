"""What commands do in a store beside the server that uses it: short, and no business of the server's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from lab_server.errors import StoreRefused
from lab_server.store import migrations, schema

T = TypeVar("T")


def beside_the_server(url: str, work: Callable[[Connection], T]) -> T:
    """Run work in a transaction of its own.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE".
        work: what to do; the server waits for it.

    Raises:
        StoreRefused: If there is no store of this version, or it cannot be opened.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not Path(parsed.database or "").is_file():
            raise StoreRefused(f"there is no store at {url}")  # SQLite would make one
        engine = sa.create_engine(parsed, connect_args={"timeout": 10.0})
    else:
        engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"))
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
