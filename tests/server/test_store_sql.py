"""What only the store on disk must do: outlive kills, a full disk, and a second server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import random
import resource
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from sqlalchemy import Connection

from lab_server.errors import NotFound, StoreError
from lab_server.files import lock
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import RunQuery, SqlStore, StoredEvent, blocks
from lab_server.store import sql as sql_store
from lab_server.store.listing import page_query
from lab_server.where import parse, parse_name
from tests.server.test_alike import Column

RUN = Run("r1", RunRequest("mnist"))

WRITER = """
import asyncio, dataclasses, sys
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest
from lab_server.store import SqlStore

async def grow(store, run_id):
    run = await store.get(run_id)
    while True:
        seq = run.last_seq + 1
        run = dataclasses.replace(run, last_seq=seq, spool_offset=seq * 10)
        await store.commit(run, events.encode_log(1, seq, ["x" * 500]))
        print(run_id, seq, flush=True)

async def main():
    store = SqlStore(sys.argv[1])
    known = await store.ids_with_prefix("r", limit=9)
    for run_id in {"r1", "r2", "r3"} - set(known):
        await store.create(Run(run_id, RunRequest("mnist")), None)
    await asyncio.gather(*(grow(store, run_id) for run_id in ("r1", "r2", "r3")))

asyncio.run(main())
"""


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/lab.db"


async def grow(store: SqlStore, run: Run, size: int = 20) -> tuple[Run, StoredEvent]:
    run = dataclasses.replace(run, last_seq=run.last_seq + 1)
    (event,) = await store.commit(run, [events.encode_checkpoint(1, 1, 0, damage="x" * size)])
    return run, event


def write_and_be_killed(folder: Path, num_commits: int) -> dict[str, int]:
    """Kill a process that writes after some commits; return the last seq of each run that it told."""
    acknowledged: dict[str, int] = {}
    command = [sys.executable, "-c", WRITER, url_of(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(num_commits):
            run_id, seq = process.stdout.readline().split()
            acknowledged[run_id] = int(seq)
        process.kill()
    return acknowledged


@pytest.mark.slow
async def test_a_writer_killed_amid_commits_leaves_gap_free_logs_with_all_it_acknowledged(
    tmp_path: Path,
) -> None:
    rng = random.Random(4)
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        acknowledged |= await asyncio.to_thread(
            write_and_be_killed, tmp_path, rng.randrange(1, 150)
        )
        store = SqlStore(url_of(tmp_path))
        for run_id, seq in acknowledged.items():
            run = await store.get(run_id)
            found = await store.events(run_id, 0, 10**9)
            assert [e.seq for e in found] == list(range(1, run.last_seq + 1))
            assert run.last_seq >= seq
            assert run.spool_offset == run.last_seq * 10
        await store.close()
    check = sqlite3.connect(tmp_path / "lab.db").execute("PRAGMA integrity_check").fetchone()
    assert check == ("ok",)


async def test_runs_and_events_outlive_a_restart(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    run, event = await grow(store, await store.create(RUN, None))
    await store.close()

    store = SqlStore(url_of(tmp_path))
    assert await store.get("r1") == run
    assert await store.events("r1", 0, 1000) == (event,)
    _, later = await grow(store, run)
    assert later.position > event.position
    await store.close()


async def test_the_position_of_a_deleted_run_is_not_given_again_after_a_restart(
    tmp_path: Path,
) -> None:
    store = SqlStore(url_of(tmp_path))
    _, event = await grow(store, await store.create(RUN, None))
    await store.delete("r1")
    await store.purge("r1")
    await store.close()

    store = SqlStore(url_of(tmp_path))
    assert await store.last_position() == event.position
    _, later = await grow(store, await store.create(RUN, None))
    assert later.position > event.position
    await store.close()


async def test_waiting_commits_share_a_transaction(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    runs = [await store.create(dataclasses.replace(RUN, id=f"r{i}"), None) for i in range(40)]
    written: list[float] = []
    async with writer_is_busy(store):
        store.observe_writes(written.append)
        commits = asyncio.gather(*(grow(store, run) for run in runs))
        await asyncio.sleep(0)

    await commits
    assert len(written) == 2  # the one that blocked, and all that waited meanwhile
    await store.close()


@contextlib.asynccontextmanager
async def writer_is_busy(store: SqlStore) -> AsyncIterator[None]:
    """Have what is to be written wait."""
    is_blocked, unblock = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def block(_: Connection) -> None:
        loop.call_soon_threadsafe(is_blocked.set)
        unblock.wait()

    blocking = asyncio.create_task(store._write(block))
    await is_blocked.wait()
    try:
        yield
    finally:
        unblock.set()
        await blocking


@pytest.mark.parametrize("num_cancels", [0, 1, 2])
async def test_a_commit_goes_on_when_its_caller_is_cancelled_and_its_end_is_told_before(
    tmp_path: Path, num_cancels: int
) -> None:
    store = SqlStore(url_of(tmp_path))
    run = dataclasses.replace(await store.create(RUN, None), last_seq=1)
    told: list[StoredEvent] = []
    async with writer_is_busy(store):
        new = events.encode_log(1, 1, ["x"])
        task = asyncio.create_task(store.commit(run, new, None, told.extend))
        await asyncio.sleep(0)
        for _ in range(num_cancels):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        assert not told
        task.add_done_callback(lambda _: told.append(StoredEvent(0, "", 0, "done", b"")))

    await asyncio.wait((task,))
    assert task.cancelled() == bool(num_cancels)
    assert [event.kind for event in told] == ["log", "done"]
    assert tuple(told[:1]) == await store.events("r1", 0, 1000)
    await store.close()


async def test_a_commit_that_fails_tells_nothing_but_its_error(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    run = await store.create(RUN, None)
    told: list[object] = []
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    for is_cancelled in (False, True):
        async with writer_is_busy(store):
            task = asyncio.create_task(
                store.commit(dataclasses.replace(run, last_seq=7), (), None, told.append)
            )
            await asyncio.sleep(0)
            if is_cancelled:
                task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled() == is_cancelled
        assert is_cancelled or isinstance(task.exception(), StoreError)
        del task
        gc.collect()
    assert not told
    assert not problems
    await store.close()


async def test_an_error_of_who_is_told_of_a_commit_is_its_callers(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    run = await store.create(RUN, None)

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.commit(run, (), None, fail)
    await grow(store, run)
    await store.close()


def num_rows(folder: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / "lab.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.slow
@pytest.mark.parametrize("order_by", ["create_time", "name", "duration", "lr", "max(loss)"])
@pytest.mark.parametrize(
    "where",
    [
        None,
        "state = completed and tag = a and name ~ x and notes ~ y and reason = none",
        "lr > 0.1 and loss < 2 and max(acc) > 0 and parent = none and duration > 1h",
    ],
)
async def test_a_list_reads_the_rows_of_its_page_alone(
    tmp_path: Path, order_by: str, where: str | None
) -> None:
    """Rows have all JSON of a run; what lists ask for lies beside them."""
    store = SqlStore(url_of(tmp_path))
    await store.close()
    name = parse_name(order_by)
    assert name is not None
    query = RunQuery(
        states=frozenset({RunState.COMPLETED}) if where is None else frozenset(),
        where=parse(where) if where else None,
        order_by=name,
        is_counted=True,
    )
    engine = sqlalchemy.create_engine(url_of(tmp_path))
    with engine.connect() as connection:
        statement = page_query(query).page.compile(engine, compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    engine.dispose()

    steps = [step for *_, step in plan if " runs" in step]
    assert steps == [
        "SCAN runs USING COVERING INDEX runs_listed",
        "SEARCH runs USING INDEX sqlite_autoindex_runs_1 (id=?)",
    ]


@pytest.mark.parametrize("where", ["max(loss) > 0.5", "loss = 1"])
def test_what_was_compiled_for_a_list_is_kept_for_each_of_its_names(where: str) -> None:
    def cache_key(text: str, now_ns: int) -> object:
        name = parse_name("metrics.loss")
        assert name is not None
        query = RunQuery(where=parse(text), order_by=name, now_ns=now_ns)
        key = page_query(query).page._generate_cache_key()
        assert key is not None, "it is compiled for each page anew"
        return key.key

    # values that are parameters may differ, names may not
    assert cache_key(where, 1) == cache_key(where, 2)
    assert cache_key(where, 1) != cache_key(where.replace("loss", "cost"), 1)


async def test_compacted_events_lie_in_blocks_and_take_a_fraction_of_the_space(
    tmp_path: Path,
) -> None:
    store = SqlStore(url_of(tmp_path))
    run = await store.create(RUN, None)
    for _ in range(300):
        run, _ = await grow(store, run)
    rows = await store.events("r1", 0, 10**6)
    assert (num_rows(tmp_path, "events"), num_rows(tmp_path, "event_blocks")) == (300, 0)

    await store.compact("r1", 280)

    assert (num_rows(tmp_path, "events"), num_rows(tmp_path, "event_blocks")) == (20, 1)
    block = blocks.pack(rows[:280])
    assert len(block.data) < sum(len(event.payload) for event in rows[:280]) / 5
    assert tuple(blocks.unpack(block)) == rows[:280]
    await store.delete("r1")
    await store.purge("r1")
    assert (num_rows(tmp_path, "events"), num_rows(tmp_path, "event_blocks")) == (0, 0)
    await store.close()


def test_few_large_events_are_stored_as_columns_of_doubles() -> None:
    random.seed(3)
    few = []
    for seq in (1, 2):
        # values of float32, as torch's are: half of each double is alike
        values = [float(np.float32(random.random())) for _ in range(2000)]
        (event,) = events.encode_metrics(1, 1, [Column("loss", range(2000), values)])
        few.append(StoredEvent(seq, "r1", seq, "metrics", event.payload))

    block = blocks.pack(few)

    assert tuple(blocks.unpack(block)) == tuple(few)
    as_they_are = zlib.compress(few[0].payload + few[1].payload, 6)
    assert len(block.data) < 0.9 * len(as_they_are)


async def test_a_block_that_is_damaged_is_an_error_with_the_run_and_its_events(
    tmp_path: Path,
) -> None:
    store = SqlStore(url_of(tmp_path))
    run = await store.create(RUN, None)
    for _ in range(9):
        run, _ = await grow(store, run)
    await store.compact("r1", 9)
    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        connection.execute("UPDATE event_blocks SET data = substr(data, 1, 60)")
        connection.commit()

    with pytest.raises(StoreError, match="the events 1 to 9 of run r1 are damaged"):
        await store.events("r1", 0, 1000)
    await store.close()


async def test_a_block_of_another_versions_format_is_an_error_and_not_other_events() -> None:
    block = blocks.pack([StoredEvent(1, "r1", 1, "metrics", b"\x0a\x00")])
    assert tuple(blocks.unpack(block)) == (StoredEvent(1, "r1", 1, "metrics", b"\x0a\x00"),)
    of_before = dataclasses.replace(block, data=block.data[1:])  # zlib's bytes alone

    with pytest.raises(StoreError, match="events 1 to 1 of run r1 are stored as another version"):
        tuple(blocks.unpack(of_before))


async def test_a_full_disk_fails_the_commit_and_not_the_store(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    run, _ = await grow(store, await store.create(RUN, None))
    num_pages = sqlite3.connect(tmp_path / "lab.db").execute("PRAGMA page_count").fetchone()[0]
    set_pages = "PRAGMA max_page_count={}".format
    await store._write(lambda c: c.exec_driver_sql(set_pages(num_pages + 4)).close())

    with pytest.raises(StoreError, match="disk of the server is full: free some space"):
        await grow(store, run, size=200_000)
    assert await store.get("r1") == run
    small = dataclasses.replace(run, state=RunState.FAILED, reason="the disk is full")
    await store.commit(small)

    await store._write(lambda c: c.exec_driver_sql(set_pages(10**6)).close())
    run, _ = await grow(store, small, size=200_000)
    assert [event.seq for event in await store.events("r1", 0, 10**6)] == [1, 2]
    await store.close()


async def test_only_the_commits_that_have_no_room_fail(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    runs = [await store.create(dataclasses.replace(RUN, id=f"r{i}"), None) for i in range(6)]
    num_pages = sqlite3.connect(tmp_path / "lab.db").execute("PRAGMA page_count").fetchone()[0]
    limit = f"PRAGMA max_page_count={num_pages + 6}"
    await store._write(lambda c: c.exec_driver_sql(limit).close())

    sizes = [20, 200_000, 20, 20, 200_000, 20]
    results = await asyncio.gather(
        *(grow(store, run, size) for run, size in zip(runs, sizes, strict=True)),
        return_exceptions=True,
    )

    assert [isinstance(r, StoreError) for r in results] == [size > 20 for size in sizes]
    await store.close()


async def test_a_write_that_the_system_refuses_fails_the_commit_and_not_the_store(
    tmp_path: Path,
) -> None:
    store = SqlStore(url_of(tmp_path))
    run, _ = await grow(store, await store.create(RUN, None))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "lab.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, hard))
    try:
        with pytest.raises(StoreError, match="the store failed"):
            await grow(store, run, size=200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await store.get("r1") == run
    await grow(store, run, size=200_000)
    await store.close()


async def test_a_second_server_on_the_same_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_WAIT_S", 0.0)
    store = SqlStore(url_of(tmp_path))
    with pytest.raises(StoreError, match="another server is using"):
        SqlStore(url_of(tmp_path))
    await store.close()

    await SqlStore(url_of(tmp_path)).close()


async def test_a_store_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    await SqlStore(url_of(tmp_path)).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        before = list(connection.iterdump())

    with pytest.raises(StoreError, match=r"lab.db has schema 9999, this server knows up to \d+;"):
        SqlStore(url_of(tmp_path))

    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        assert list(connection.iterdump()) == before


async def test_a_database_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        connection.execute("CREATE TABLE events (what TEXT)")
        connection.commit()
        before = list(connection.iterdump())

    with pytest.raises(StoreError, match=r"not a store of lab-train, it has other tables \(events"):
        SqlStore(url_of(tmp_path))

    with contextlib.closing(sqlite3.connect(tmp_path / "lab.db")) as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize("url", ["", "lab.db", "sqlite://", "mysql://me:secret@host/db", "::"])
def test_a_url_of_no_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError, match="a store is postgresql://") as caught:
        SqlStore(url)

    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lab.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(StoreError, match="not a database"):
        SqlStore(url_of(tmp_path))


def test_a_folder_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        SqlStore(url_of(tmp_path / "missing"))


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    await store.create(RUN, None)
    await store.close()
    await store.close()

    with pytest.raises(StoreError, match="closed"):
        await store.commit(RUN)
    with pytest.raises(StoreError, match="closed"):
        await store.get("r1")


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    runs = [dataclasses.replace(RUN, id=f"r{i}") for i in range(50)]
    creations = [asyncio.ensure_future(store.create(run, None)) for run in runs]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*creations)

    store = SqlStore(url_of(tmp_path))
    assert len(await store.ids_with_prefix("r", limit=99)) == 50
    await store.close()


async def test_a_caller_that_is_cancelled_does_not_undo_or_break_its_commit(tmp_path: Path) -> None:
    store = SqlStore(url_of(tmp_path))
    task = asyncio.ensure_future(store.create(RUN, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await store.create(dataclasses.replace(RUN, id="r2"), None)
    assert await store.ids_with_prefix("r") == ("r1", "r2")
    await store.close()


async def test_a_purge_that_a_crash_cut_short_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "_DELETED_AT_ONCE", 2)
    store = SqlStore(url_of(tmp_path))
    run = await store.create(RUN, None)
    for _ in range(5):
        run, _ = await grow(store, run)
    await store.delete("r1")
    purge = asyncio.ensure_future(store.purge("r1"))
    while len(await store.events("r1", 0, 1000)) == 5:
        pass
    purge.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await purge
    await store.close()

    store = SqlStore(url_of(tmp_path))
    with pytest.raises(NotFound):
        await store.delete("r1")
    await store.purge("r1")
    assert await store.events("r1", 0, 1000) == ()
    assert await store.last_position() == 5
    await grow(store, await store.create(RUN, None))
    await store.close()
