"""The revisions of the store's tables come to what `schema` says, on every database."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lab_server.store import SqlStore, migrations, schema
from lab_server.store.migrations import revision_of


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/lab.db"
    url: str = request.getfixturevalue("postgres").new_url()
    return url.replace("postgresql:", "postgresql+psycopg:")


def test_the_revisions_come_to_the_tables_of_the_schema(url: str) -> None:
    with sa.create_engine(url).begin() as connection:
        command.upgrade(migrations.config(connection), "head")

        assert revision_of(connection) == schema.SCHEMA_REVISION
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


def test_a_new_store_is_of_the_last_revision(url: str) -> None:
    SqlStore(url).close_now()

    with sa.create_engine(url).begin() as connection:
        scripts = ScriptDirectory.from_config(migrations.config(connection))
        assert [revision_of(connection)] == scripts.get_heads()
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
