"""The store's tables: made in an empty database, brought up to date in an older one.

Revisions are Alembic's, in `versions`. A new database gets the tables as `schema` has them, and a store
that is up to date is only looked at: neither needs Alembic, whose import would delay every start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy import Connection, select

from lab_server.errors import StoreRefused
from lab_server.store import schema

if TYPE_CHECKING:
    from alembic.config import Config

    from lab_server.store.databases.database import Database

_version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32)))
_FOLDER: Final = Path(__file__).parent


def prepare(database: Database) -> None:
    """Make the tables, or migrate them.

    Raises:
        StoreRefused: If the store is of a newer version or incomplete, or the database is somebody else's.
        DBAPIError: If the database fails.
    """
    with database.write_engine.begin() as connection:
        database.exclude_others(connection)
        revision = revision_of(connection)
        if not revision:
            if tables := sa.inspect(connection).get_table_names():
                raise StoreRefused(
                    f"{database.place} is not a store of lab-train, it has other tables"
                    f" ({', '.join(sorted(tables)[:3])}, ...); choose an empty database"
                )
            create(connection)
            return
        if revision != schema.SCHEMA_REVISION:
            _upgrade(connection, database.place, revision)
        if is_incomplete(connection):
            raise StoreRefused(
                f"{database.place} is not complete: `lab-server migrate` was interrupted; run it again"
            )


def revision_of(connection: Connection) -> str:
    """Return the revision of a store, empty if the database is none."""
    tables = set(sa.inspect(connection).get_table_names())
    if not {_version.name, schema.meta.name} <= tables:  # others use Alembic, too
        return ""
    return connection.execute(select(_version.c.version_num)).scalar() or ""


def is_incomplete(connection: Connection) -> bool:
    """Return whether a store is a copy that is not finished."""
    if not revision_of(connection):
        return False
    mark = select(schema.meta.c.value).where(schema.meta.c.name == schema.IS_INCOMPLETE)
    return connection.execute(mark).first() is not None


def create(connection: Connection) -> None:
    """Make all tables, of the newest revision."""
    schema.metadata.create_all(connection)
    _version.create(connection)
    connection.execute(_version.insert().values(version_num=schema.SCHEMA_REVISION))
    connection.execute(schema.meta.insert().values(name=schema.LAST_POSITION, value=0))


def config(connection: Connection) -> Config:
    """Return Alembic's configuration, on a connection in a transaction."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(_FOLDER))
    settings.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
    settings.attributes["connection"] = connection
    return settings


def _upgrade(connection: Connection, place: str, revision: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    settings = config(connection)
    try:
        ScriptDirectory.from_config(settings).get_revision(revision)
    except CommandError:
        raise StoreRefused(
            f"{place} has schema {revision}, this server knows up to {schema.SCHEMA_REVISION};"
            " use the version of lab-train that wrote it"
        ) from None
    command.upgrade(settings, "head")
