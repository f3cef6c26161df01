"""The revisions of the store's tables come to what `schema` says, on every database."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lab_server.model.run import Run
from lab_server.store import RunQuery, SqlStore, migrations, schema
from lab_server.store.migrations import revision_of
from lab_server.where import parse


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


@pytest.mark.slow
def test_a_new_store_is_of_the_last_revision(url: str) -> None:
    SqlStore(url).close_now()

    with sa.create_engine(url).begin() as connection:
        scripts = ScriptDirectory.from_config(migrations.config(connection))
        assert [revision_of(connection)] == scripts.get_heads()
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


@pytest.mark.slow
def test_a_run_of_the_first_revision_is_found_by_what_it_was_given(url: str) -> None:
    request = '{"overrides": {"lr": 0.5, "bad": NaN}, "run_order": [], "models": [], "device": "", '
    request += (
        '"max_runtime_s": 0, "max_retries": null, "writers": [], "notes": "", "parent": null}'
    )
    texts = dict.fromkeys(("experiment", "name", "owner"), "x") | {"state": "CREATED"}
    texts |= {"tags": "[]", "metrics": "{}", "request": request, "details": "{}"}
    numbers = dict.fromkeys(("step", "priority", "queue_key", "create_time_ns", "last_seq"), 0)
    with sa.create_engine(url).begin() as connection:
        command.upgrade(migrations.config(connection), "0001")
        old = [c for c in schema.runs.c if c.name not in ("configs", "extremes")]
        insert = sa.insert(sa.table("runs", *(sa.column(c.name, c.type) for c in old)))
        connection.execute(insert, {"id": "r1", **texts, **numbers})
        connection.execute(schema.meta.insert(), {"name": schema.LAST_POSITION, "value": 0})

    async def found() -> list[Run]:
        store = SqlStore(url)
        page = await store.list(RunQuery(where=parse("lr = 0.5 and bad = nan and device = none")))
        await store.close()
        return list(page.runs)

    (run,) = asyncio.run(found())
    assert (run.id, run.configs["lr"], run.extremes) == ("r1", 0.5, {})
    assert math.isnan(run.configs["bad"])  # type: ignore[arg-type]
