"""Moves a store to another database, and verifies that all of it arrived.

The source is only read, and no server can write to it meanwhile. The target is marked until the last
row is verified: no server uses a marked store, and the next try begins by emptying it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import DBAPIError

from lab_server.errors import StoreError, StoreRefused
from lab_server.store import migrations, schema
from lab_server.store.databases.database import Database
from lab_server.store.databases.urls import check_is_there, open_database, parse_url

_OF_SERVERS: Final = (schema.servers, schema.members)  # those that run now
_TABLES: Final = [table for table in schema.metadata.sorted_tables if table not in _OF_SERVERS]
_ROWS_AT_ONCE: Final = 500
_STREAMING: Final = {"stream_results": True, "max_row_buffer": _ROWS_AT_ONCE}
_IS_MARK: Final = schema.meta.c.name == schema.IS_INCOMPLETE

Progress = Callable[[str, int, int], None]
"""Told what is done ("copying events"), with how many rows, and of how many."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved: the number of rows of each table."""

    num_rows: dict[str, int]


def move(source_url: str, target_url: str, progress: Progress = lambda *_: None) -> Moved:
    """Copy a store into an empty database.

    Args:
        source_url: of a store that no server uses; it stays as it is.
        target_url: of an empty database, or of one to which the same was tried before.
        progress: told about every few hundred rows.

    Raises:
        StoreRefused: If the source is no store of this version, or the target is not empty.
        StoreError: If a database fails, a server is using one of them, or a row arrived changed.
    """
    check_is_there(parse_url(source_url))
    with _opened(source_url) as source, _opened(target_url) as target:
        try:
            return _move(source, target, progress)
        except DBAPIError as error:
            raise (target if _is_of(error, target) else source).error(error) from error


def _move(source: Database, target: Database, progress: Progress) -> Moved:
    with source.read_engine.connect() as reading:
        _check(reading, source.place)
    _join(source)
    with source.read_engine.connect() as reading:
        _empty(target)
        _join(target)
        num_rows = {}
        for table in _TABLES:
            num_rows[table.name] = _copy(reading, target, table, progress)
        for table in _TABLES:
            _verify(reading, target, table, num_rows[table.name], progress)
    with target.write_engine.begin() as connection:
        target.check_in(connection)
        connection.execute(schema.meta.delete().where(_IS_MARK))
    return Moved(num_rows)


def _join(database: Database) -> None:
    if address := database.join():
        raise StoreError(f"a server on {address} is using the store {database.place}; stop it")


def _check(reading: Connection, place: str) -> None:
    """Make sure that a source is whole and of this version."""
    revision = migrations.revision_of(reading)
    if not revision:
        raise StoreRefused(f"{place} is not a store of lab-train")
    if revision != schema.SCHEMA_REVISION:
        raise StoreRefused(
            f"{place} has schema {revision}, not {schema.SCHEMA_REVISION}: start a server of this version"
            " on it once, and stop it"
        )
    if migrations.is_incomplete(reading):
        raise StoreRefused(f"{place} is itself an incomplete copy; copy the original")


@contextlib.contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = open_database(url, lambda: False, "")
    try:
        yield database
    finally:
        database.close()


def _empty(target: Database) -> None:
    """Make the tables, or empty those that an interrupted try left; mark the store as incomplete."""
    with target.write_engine.begin() as connection:
        target.exclude_others(connection)
        if sa.inspect(connection).get_table_names():
            if not migrations.is_incomplete(connection):
                raise StoreRefused(f"{target.place} is not empty; choose an empty database")
            for table in reversed(_TABLES):
                connection.execute(table.delete())
        else:
            migrations.create(connection)
            connection.execute(schema.meta.delete())
        connection.execute(schema.meta.insert().values(name=schema.IS_INCOMPLETE, value=1))


def _copy(reading: Connection, target: Database, table: Table, progress: Progress) -> int:
    total = reading.execute(select(func.count()).select_from(table)).scalar_one()
    num_rows = 0
    progress(f"copying {table.name}", 0, total)
    for rows in _pieces(reading, table):
        with target.write_engine.begin() as connection:
            target.check_in(connection)
            connection.execute(table.insert(), [dict(row._mapping) for row in rows])
        num_rows += len(rows)
        progress(f"copying {table.name}", num_rows, total)
    with target.write_engine.begin() as connection:
        target.set_next_id(connection, table)
    return num_rows


def _verify(
    reading: Connection, target: Database, table: Table, num_rows: int, progress: Progress
) -> None:
    with target.read_engine.connect() as copied:
        num_verified = 0
        digests = hashlib.sha256(), hashlib.sha256()
        # the mark is in the target alone
        of_both = _pieces(reading, table), _pieces(copied, table)
        for pieces in zip(*of_both, strict=False):
            for digest, rows in zip(digests, pieces, strict=True):
                for row in rows:
                    digest.update(repr(tuple(row)).encode("utf-8", "surrogatepass"))
            num_verified += len(pieces[0])
            progress(f"verifying {table.name}", num_verified, num_rows)
        query = select(func.count()).select_from(table)
        counted = copied.execute(query.where(~_IS_MARK) if table is schema.meta else query)
        num_arrived = counted.scalar_one()
    if num_arrived != num_rows or digests[0].digest() != digests[1].digest():
        raise StoreError(
            f"the table {table.name} did not arrive as it was; the source is unchanged: run the"
            " command again, with a database that nobody else writes to"
        )


def _pieces(connection: Connection, table: Table) -> Iterator[list[sa.Row[Any]]]:
    query = select(table).order_by(*table.primary_key)
    if table is schema.meta:
        query = query.where(~_IS_MARK)
    with connection.execute(query, execution_options=_STREAMING) as rows:
        while piece := list(rows.fetchmany(_ROWS_AT_ONCE)):
            yield piece


def _is_of(error: DBAPIError, database: Database) -> bool:
    return isinstance(error.orig, database.write_engine.dialect.loaded_dbapi.Error)
