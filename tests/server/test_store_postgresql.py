"""What a store on PostgreSQL must do: outlive restarts and lost answers, and keep others out."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from lab_server.errors import StoreError
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest
from lab_server.store import SqlStore, StoredEvent
from lab_server.store.databases import postgresql
from tests.postgres import Postgres

RUN = Run("r1", RunRequest("mnist"))
SOCKET = ".s.PGSQL.5432"
COMMIT = b"COMMIT\0"  # and not READ COMMITTED


def end_lease(postgres: Postgres, url: str) -> None:
    """Have the lease of the server that writes be over, as if that one had long been frozen."""
    schema_name = url.rpartition("%3D")[2]
    postgres.execute(f"UPDATE {schema_name}.servers SET lease_until_ms = 0")


async def grow(store: SqlStore, run: Run) -> tuple[Run, StoredEvent]:
    run = dataclasses.replace(run, last_seq=run.last_seq + 1)
    (event,) = await store.commit(run, [events.encode_checkpoint(1, 1, 0)])
    return run, event


class Proxy:
    """A Unix socket before the database, which may lose what passes through it.

    Attributes:
        on_commit: what becomes of each COMMIT: "pass", "lose" (it never arrives) or "hide" (its
            answer never arrives); the connection is cut in both cases.
        is_refusing: whether new connections are cut at once.
    """

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self._postgres = postgres
        self._folder = folder
        self.has_lost = asyncio.Event()
        self.mend()

    def url(self, url: str) -> str:
        return url.replace(quote(str(self._postgres.folder)), quote(str(self._folder)))

    def lose_commits(self, how: str, *, is_refusing: bool = False) -> None:
        self.on_commit, self.is_refusing = how, is_refusing
        self.has_lost.clear()

    def mend(self) -> None:
        self.on_commit, self.is_refusing = "pass", False

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        async with await asyncio.start_unix_server(self._relay, self._folder / SOCKET):
            yield self

    async def _relay(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            answers.close()
            return
        server, requests = await asyncio.open_unix_connection(self._postgres.folder / SOCKET)
        is_hiding = False

        async def there() -> None:
            nonlocal is_hiding
            while data := await client.read(1 << 16):
                if COMMIT in data and self.on_commit == "lose":
                    return
                is_hiding |= COMMIT in data and self.on_commit == "hide"
                requests.write(data)

        async def back() -> None:
            while (data := await server.read(1 << 16)) and not is_hiding:
                answers.write(data)

        ways = [asyncio.create_task(there()), asyncio.create_task(back())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if self.on_commit != "pass":
            self.has_lost.set()
        for way in ways:
            way.cancel()
        requests.close()
        answers.close()


@pytest.fixture
async def proxy(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with Proxy(postgres, tmp_path).serving() as proxy:
        yield proxy


async def test_the_events_of_a_transaction_are_sent_together(postgres: Postgres) -> None:
    store = await asyncio.to_thread(SqlStore, postgres.new_url())
    run = await store.create(RUN, None)
    sent = []

    def on_execute(*arguments: Any) -> None:
        if "INSERT INTO events" in arguments[2]:
            sent.append(len(arguments[3]))

    sa.event.listen(store._database.write_engine, "before_cursor_execute", on_execute)
    run = dataclasses.replace(run, last_seq=20)
    await store.commit(run, [events.encode_checkpoint(1, 1, step) for step in range(20)])
    assert sent == [20]
    await store.close()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "is_done"), [("lose", False), ("hide", True)])
async def test_a_commit_whose_answer_is_lost_is_told_as_what_became_of_it(
    proxy: Proxy, postgres: Postgres, fault: str, is_done: bool
) -> None:
    store = await asyncio.to_thread(SqlStore, proxy.url(postgres.new_url()))
    run, _ = await grow(store, await store.create(RUN, None))

    for _ in range(10):
        proxy.lose_commits(fault)
        growing = asyncio.ensure_future(grow(store, run))
        await proxy.has_lost.wait()
        proxy.mend()
        if is_done:
            run, _ = await growing
        else:
            with pytest.raises(StoreError, match="cannot be reached"):
                await growing
        run, _ = await grow(store, run)

    found = await store.events("r1", 0, 10**6)
    assert [event.seq for event in found] == list(range(1, run.last_seq + 1))
    assert run.last_seq == (21 if is_done else 11)
    assert (await store.get("r1")).last_seq == run.last_seq
    await store.close()


async def test_what_comes_while_a_commit_is_in_doubt_fails_at_once(
    proxy: Proxy, postgres: Postgres
) -> None:
    store = await asyncio.to_thread(SqlStore, proxy.url(postgres.new_url()))
    run = await store.create(RUN, None)
    proxy.lose_commits("hide", is_refusing=True)
    in_doubt = asyncio.ensure_future(grow(store, run))
    await proxy.has_lost.wait()

    with pytest.raises(StoreError, match="cannot be reached"):
        await store.create(dataclasses.replace(RUN, id="r2"), None)
    assert not in_doubt.done()

    proxy.mend()
    run, _ = await in_doubt
    await grow(store, run)
    await store.close()


async def test_a_store_that_is_closed_in_doubt_does_not_wait_for_ever(
    proxy: Proxy, postgres: Postgres
) -> None:
    store = await asyncio.to_thread(SqlStore, proxy.url(postgres.new_url()))
    run = await store.create(RUN, None)
    proxy.lose_commits("hide", is_refusing=True)
    in_doubt = asyncio.ensure_future(grow(store, run))
    await proxy.has_lost.wait()

    await store.close()

    with pytest.raises(StoreError, match="cannot be reached"):
        await in_doubt


@pytest.mark.slow
async def test_a_database_that_was_restarted_is_used_again_without_a_lost_event(
    postgres: Postgres,
) -> None:
    store = await asyncio.to_thread(SqlStore, postgres.new_url())
    run, first = await grow(store, await store.create(RUN, None))
    await asyncio.to_thread(postgres.stop)
    try:
        with pytest.raises(StoreError, match=r"the store postgresql://.* cannot be reached"):
            await grow(store, run)
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.get("r1")
    finally:
        await asyncio.to_thread(postgres.start)

    assert await store.events("r1", 0, 1000) == (first,)
    run, second = await grow(store, run)
    assert await store.events("r1", 0, 1000) == (first, second)
    await store.close()


async def test_a_connection_that_was_ended_costs_no_read(postgres: Postgres) -> None:
    store = await asyncio.to_thread(SqlStore, postgres.new_url())
    await store.create(RUN, None)
    await store.get("r1")
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'lab-server reader'"
    )

    assert await store.get("r1") == RUN
    await store.close()


@pytest.mark.slow
async def test_a_second_server_is_refused_while_the_first_one_lives(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_url()
    store = await asyncio.to_thread(SqlStore, url, server_id="first")
    with pytest.raises(StoreError, match=r"the server \S+ is using the store postgresql://"):
        await asyncio.to_thread(SqlStore, url, server_id="second")
    await store.create(RUN, None)
    await store.close()

    second = await asyncio.to_thread(SqlStore, url, server_id="second")
    assert await second.get("r1") == RUN
    await second.close()


async def test_a_server_that_was_replaced_can_write_no_more(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_RENEWALS_A_LEASE", 0.001)  # as if it was frozen
    url = postgres.new_url()
    frozen = await asyncio.to_thread(SqlStore, url, server_id="first")
    run, event = await grow(frozen, await frozen.create(RUN, None))
    end_lease(postgres, url)
    second = await asyncio.to_thread(SqlStore, url, server_id="second")

    with pytest.raises(StoreError, match="another server took over the store"):
        await grow(frozen, run)
    with pytest.raises(StoreError, match="another server took over the store"):
        await frozen.create(dataclasses.replace(RUN, id="r2"), None)

    assert await second.events("r1", 0, 1000) == (event,)
    await grow(second, run)
    monkeypatch.undo()
    frozen._database._is_closing.set()  # type: ignore[attr-defined]
    await frozen.close()
    await grow(second, await second.create(dataclasses.replace(RUN, id="r2"), None))
    await second.close()


async def test_a_server_that_is_frozen_in_a_transaction_is_replaced(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_RENEWALS_A_LEASE", 0.001)
    url = postgres.new_url()
    frozen = await asyncio.to_thread(SqlStore, url, server_id="first")
    run = await frozen.create(RUN, None)
    end_lease(postgres, url)
    database: Any = frozen._database
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"application_name": database._writer_name},
    )
    with engine.connect() as connection:
        # in the middle of a statement it does not count as idle, whose time is bounded
        connection.execute(sa.text("SET idle_in_transaction_session_timeout = 0"))
        database.check_in(connection)
        opening = asyncio.to_thread(SqlStore, url, server_id="second")
        second = await asyncio.wait_for(opening, 60)
        await grow(second, run)
        with pytest.raises(sa.exc.OperationalError):
            connection.commit()
        connection.invalidate()
    engine.dispose()
    other = dataclasses.replace(RUN, id="r2")
    with pytest.raises(StoreError, match="cannot be reached"):
        await frozen.create(other, None)
    with pytest.raises(StoreError, match="another server took over the store"):
        await frozen.create(other, None)
    monkeypatch.undo()
    database._is_closing.set()
    await frozen.close()
    await second.close()


async def test_the_same_server_comes_back_at_once_after_a_kill(postgres: Postgres) -> None:
    url = postgres.new_url()
    killed = await asyncio.to_thread(SqlStore, url, server_id="same")
    again = await asyncio.to_thread(SqlStore, url, server_id="same")

    await again.create(RUN, None)
    with pytest.raises(StoreError, match="took over"):
        await killed.create(dataclasses.replace(RUN, id="r2"), None)
    await killed.close()
    await again.create(dataclasses.replace(RUN, id="r2"), None)
    await again.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("/postgres?", "/other?"), 'database "other" does not exist'),
        (lambda url: url.replace("lab@", "ghost:secret@"), 'role "ghost" does not exist'),
        (lambda url: url.replace("host=", "host=%2Fnowhere"), "cannot be reached"),
    ],
)
def test_a_database_that_lets_nobody_in_is_an_error_with_its_place(
    postgres: Postgres, change: Callable[[str], str], message: str
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        SqlStore(change(postgres.url()))

    assert "postgresql://" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_driver_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *arguments: Any) -> Any:
        if name == "psycopg":
            raise ImportError(name)
        return real(name, *arguments)

    real = builtins.__import__
    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(StoreError, match=r"pip install 'lab-train\[postgresql\]'"):
        SqlStore("postgresql://host/db")


async def test_waiting_for_events_ends_with_them_and_outlives_its_connection(
    postgres: Postgres,
) -> None:
    url = postgres.new_url()
    leader = await asyncio.to_thread(SqlStore, url, address="leader:1")
    follower = await asyncio.to_thread(SqlStore, url, may_follow=True)
    assert follower.leader == "leader:1"
    run = await leader.create(RUN, None)

    waiting = asyncio.ensure_future(follower.wait_for_events(60))
    while not waiting.done():  # it may not listen yet
        run, _ = await grow(leader, run)
    await waiting

    async def wait_and_be_cut_off() -> None:
        waiting = asyncio.ensure_future(follower.wait_for_events(60))
        while not waiting.done():
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
            await asyncio.sleep(0.01)
        await waiting

    with pytest.raises(StoreError, match="cannot be reached"):  # noqa: PT012
        while True:  # what was committed above may still end a wait
            await wait_and_be_cut_off()
    await follower.wait_for_events(0.01)

    with pytest.raises(StoreError, match="another server writes to the store"):
        await follower.create(dataclasses.replace(RUN, id="r2"), None)
    assert not await follower.try_to_lead()
    await leader.close()
    assert await follower.try_to_lead()
    await grow(follower, run)
    await follower.close()


async def test_every_server_is_known_and_a_home_s_last_one_stays_known(postgres: Postgres) -> None:
    url = postgres.new_url()
    leader = SqlStore(url, server_id="one", address="a:1", home="one")
    follower = SqlStore(url, server_id="two", address="b:2", home="two", may_follow=True)
    try:
        found = {(m.home, m.address, m.is_live) for m in await leader.members()}
        assert found == {("one", "a:1", True), ("two", "b:2", True)}
        await follower.close()
        found = {(m.home, m.address, m.is_live) for m in await leader.members()}
        assert found == {("one", "a:1", True), ("two", "b:2", False)}
        # the next server of the home takes its place
        follower = SqlStore(url, server_id="two", address="b:3", home="two", may_follow=True)
        found = {(m.home, m.address, m.is_live) for m in await leader.members()}
        assert found == {("one", "a:1", True), ("two", "b:3", True)}
    finally:
        await follower.close()
        await leader.close()


async def test_a_connection_that_hangs_keeps_a_follower_from_nothing_else(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_RENEWALS_A_LEASE", 100)
    url = postgres.new_url()
    leader = await asyncio.to_thread(SqlStore, url, address="leader:1")
    follower = await asyncio.to_thread(SqlStore, url, may_follow=True)
    database: Any = follower._database
    database._other_engine.pool._timeout = 0.2  # not the 30 s after which a wait for one fails
    await follower.wait_for_events(0)
    renewing = (
        "SELECT pid FROM pg_stat_activity WHERE query NOT LIKE 'LISTEN%'"
        f" AND application_name = '{postgresql._names(database._session)[1]}'"
    )
    pids: list[int] = []
    while not pids:
        pids = [int(str(pid)) for (pid,) in postgres.execute(renewing)]
        await asyncio.sleep(0)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while database._other_engine.pool.checkedout() < 2:  # noqa: ASYNC110 - a thread takes it
            await asyncio.sleep(0.01)
        assert not await follower.try_to_lead()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await follower.close()
    await leader.close()
