"""The revisions of the store's tables come to what `schema` says, on every database."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lab_server.model.run import Run, RunParent
from lab_server.store import RunQuery, SqlStore, migrations, schema
from lab_server.store.migrations import revision_of
from lab_server.where import parse


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/lab.db"
    url: str = request.getfixturevalue("postgres").new_url()
    return url.replace("postgresql:", "postgresql+psycopg:")


def differences(connection: sa.Connection) -> list[object]:
    """Return in what the tables differ from the schema."""
    is_on = partial(schema.is_on, connection.dialect.name)
    context = MigrationContext.configure(
        connection, opts={"include_object": lambda thing, *_: is_on(thing)}
    )
    return list(compare_metadata(context, schema.metadata))


def test_the_revisions_come_to_the_tables_of_the_schema(url: str) -> None:
    with sa.create_engine(url).begin() as connection:
        command.upgrade(migrations.config(connection), "head")

        assert revision_of(connection) == schema.SCHEMA_REVISION
        assert differences(connection) == []


@pytest.mark.slow
def test_a_new_store_is_of_the_last_revision(url: str) -> None:
    SqlStore(url).close_now()

    with sa.create_engine(url).begin() as connection:
        scripts = ScriptDirectory.from_config(migrations.config(connection))
        assert [revision_of(connection)] == scripts.get_heads()
        assert differences(connection) == []


@pytest.mark.slow
def test_a_run_of_the_first_revision_is_found_by_what_it_was_given(url: str) -> None:
    request = '{"overrides": {"lr": 0.5, "bad": NaN}, "run_order": [], "models": [], "device": "", '
    request += (
        '"max_runtime_s": 0, "max_retries": null, "writers": [], "notes": "n", "parent": ["r0", 7]}'
    )
    details = '{"start_time_ns": 5, "attempt": 2, "slot": "cpu:0", "checkpoint_step": 3, "spool_offset": 9}'
    metrics = '{"loss": 0.25, "up": 9e999, "broken": null}'
    texts = dict.fromkeys(("experiment", "name", "owner"), "x") | {"state": "COMPLETED"}
    texts |= {"tags": "[]", "metrics": metrics, "request": request, "details": details}
    numbers = dict.fromkeys(("step", "priority", "queue_key", "create_time_ns", "last_seq"), 0)
    with sa.create_engine(url).begin() as connection:
        command.upgrade(migrations.config(connection), "0001")
        values = {"id": "r1", **texts, **numbers}
        connection.execute(sa.insert(sa.table("runs", *map(sa.column, values))), values)
        connection.execute(schema.meta.insert(), {"name": schema.LAST_POSITION, "value": 0})

    async def found() -> list[Run]:
        store = SqlStore(url)
        where = (
            "lr = 0.5 and bad = nan and device = none and notes = n and parent = r0 and search = none"
            " and loss < 0.3 and up > 1e300 and broken = nan and max(loss) = none and attempt = 2"
            " and slot = 'cpu:0' and checkpoint_step = 3 and start_time != none and end_time = none"
        )
        page = await store.list(RunQuery(where=parse(where)))
        await store.close()
        return list(page.runs)

    (run,) = asyncio.run(found())
    assert (run.id, run.configs["lr"], run.extremes) == ("r1", 0.5, {})
    assert (run.attempt, run.slot, run.checkpoint_step) == (2, "cpu:0", 3)
    assert (run.request.notes, run.request.parent) == ("n", RunParent("r0", 7))
    assert (run.start_time_ns, run.end_time_ns, run.spool_offset) == (5, 0, 9)
    assert math.isnan(run.configs["bad"])  # type: ignore[arg-type]
