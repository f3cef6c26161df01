"""`lab-server migrate`: all of a store arrives in another database, or nothing is said to have."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_server.errors import StoreError, StoreRefused
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import IdempotencyRecord, RunQuery, SqlStore, schema, transfer
from lab_server.store.protocol import NewSeriesChunk
from lab_server.store.transfer import move
from tests.postgres import Postgres

pytestmark = pytest.mark.slow


def in_folder(folder: Path) -> str:
    return f"sqlite:///{folder}/lab.db"


async def fill(url: str) -> None:
    """Make a store with something in each of its tables."""
    store = await asyncio.to_thread(SqlStore, url)
    for number in range(5):
        request = RunRequest("mnist", {"s": "a\0b"}, name=f"ü{number}\0", tags=("x", "\uf8ff"))
        metrics = {"loss": math.nan, "acc": math.inf, "f1": 0.1 + number}
        run = Run(f"r{number}", request, metrics=metrics, state=RunState.COMPLETED)
        await store.create(run, IdempotencyRecord(f"key{number}", "f"))
        new = [events.encode_log(1, index, [f"line {index}"])[0] for index in range(300)]
        run = dataclasses.replace(run, last_seq=300)
        await store.commit(run, new)
        for seq in range(301, 320):
            run = dataclasses.replace(run, last_seq=seq)
            await store.commit(run, new[:1])
        chunk = NewSeriesChunk("loss", 1, 9, 9, b"summary\0", b"points\xff")
        assert await store.write_history(run.id, 0, 319, [], [chunk] * 3)
    await store.delete("r4")
    await store.purge("r4")
    await store.close()


async def content(url: str) -> list[object]:
    """Return all that a server sees of a store."""
    store = await asyncio.to_thread(SqlStore, url)
    runs = (await store.list(RunQuery())).runs
    found: list[object] = [repr(runs), await store.last_position(), await store.counts()]
    found.append(await store.events_across(0, 10**9))
    for run in runs:
        history = await store.history(run.id)
        found.append(history)
        found.append(await store.chunk_data([chunk.id for chunk in history.chunks], "points"))
        found.append(await store.idempotency_record(run.id.replace("r", "key")))
    await store.close()
    return found


@pytest.mark.parametrize("direction", ["to postgresql", "to sqlite"])
async def test_all_of_a_store_arrives_and_goes_on(
    tmp_path: Path, postgres: Postgres, direction: str
) -> None:
    source, target = in_folder(tmp_path), postgres.new_url()
    if direction == "to sqlite":
        source, target = target, source
    await fill(source)
    told: list[tuple[str, int, int]] = []

    moved = await asyncio.to_thread(move, source, target, lambda *what: told.append(what))

    assert moved.num_rows["runs"] == 4
    assert ("verifying runs", 4, 4) in told
    before = await content(source)
    assert await content(target) == before
    store = await asyncio.to_thread(SqlStore, target)
    run = await store.get("r0")
    run = dataclasses.replace(run, last_seq=run.last_seq + 1)
    (event,) = await store.commit(run, [events.encode_log(1, 1, ["on"])[0]])
    assert event.position == before[1] + 1  # type: ignore[operator]
    chunk = NewSeriesChunk("acc", 1, 9, 9, b"", b"")
    assert await store.write_history("r0", 319, 320, [], [chunk])
    await store.close()


async def test_the_source_is_left_as_it_was(tmp_path: Path, postgres: Postgres) -> None:
    await fill(in_folder(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        before = list(connection.iterdump())

    await asyncio.to_thread(move, in_folder(tmp_path), postgres.new_url())

    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("at", ["copying events", "copying series_chunks", "verifying runs"])
async def test_an_interrupted_copy_is_used_by_nobody_and_can_be_made_again(
    tmp_path: Path, postgres: Postgres, at: str
) -> None:
    source, target = in_folder(tmp_path), postgres.new_url()
    await fill(source)

    def interrupt(what: str, num_done: int, _: int) -> None:
        if what == at and num_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await asyncio.to_thread(move, source, target, interrupt)
    with pytest.raises(StoreRefused, match="`lab-server migrate` was interrupted; run it again"):
        await asyncio.to_thread(SqlStore, target)
    with pytest.raises(StoreRefused, match="is itself an incomplete copy"):
        await asyncio.to_thread(move, target, in_folder(tmp_path / ".."))

    await asyncio.to_thread(move, source, target)

    assert await content(target) == await content(source)


async def test_a_row_that_arrives_changed_is_noticed(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = in_folder(tmp_path), postgres.new_url()
    await fill(source)
    schema_name = target.rpartition("%3D")[2]

    def damage(what: str, num_done: int, total: int) -> None:
        if what == "copying runs" and num_done == total:
            postgres.execute(f"UPDATE {schema_name}.runs SET owner = 'x' WHERE id = 'r2'")

    with pytest.raises(StoreError, match="the table runs did not arrive as it was"):
        await asyncio.to_thread(move, source, target, damage)
    with pytest.raises(StoreRefused, match="is not complete"):
        await asyncio.to_thread(SqlStore, target)


async def test_a_store_in_use_is_not_moved(tmp_path: Path, postgres: Postgres) -> None:
    in_use = await asyncio.to_thread(SqlStore, postgres.new_url())
    url = in_use._database.write_engine.url.render_as_string().replace("+psycopg", "")

    with pytest.raises(StoreError, match="is using the store"):
        await asyncio.to_thread(move, url, in_folder(tmp_path))
    await in_use.close()


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (lambda f, _: in_folder(f / "nowhere"), lambda _, p: p.new_url(), "there is no store at"),
        (lambda _, p: p.new_url(), lambda f, _: in_folder(f), "is not a store of lab-train"),
        (lambda f, _: in_folder(f), lambda _, p: p.url(), "is not empty; choose an empty"),
        (lambda f, _: in_folder(f), lambda *_: "postgresql://x@/?host=/none", "cannot be reached"),
        (lambda f, _: in_folder(f), lambda *_: "mysql://x:secret@h/d", "a store is postgresql://"),
    ],
)
def test_what_cannot_be_moved_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    postgres: Postgres,
    source: Callable[[Path, Postgres], str],
    target: Callable[[Path, Postgres], str],
    message: str,
) -> None:
    SqlStore(in_folder(tmp_path)).close_now()
    postgres.execute("CREATE TABLE IF NOT EXISTS public.others (what text)")
    urls = ["--from", source(tmp_path, postgres), "--to", target(tmp_path, postgres)]

    done = subprocess.run(
        [sys.executable, "-m", "lab_server", "migrate", *urls],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


async def test_the_command_says_what_it_moved(tmp_path: Path, postgres: Postgres) -> None:
    await fill(in_folder(tmp_path))
    command = [sys.executable, "-m", "lab_server", "migrate", "--home", str(tmp_path)]

    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--to", postgres.new_url()],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "moved 4 runs" in done.stderr


def test_every_table_but_the_servers_leases_is_moved() -> None:
    names = {table.name for table in transfer._TABLES}
    assert names == set(schema.metadata.tables) - {"servers", "members"}
