"""The store in a SQL database: SQLite in WAL mode, or PostgreSQL.

Owners: the thread of `GroupWriter` has the only connection that writes; reads (`sql_reads`) have connections of
their own, in a few threads, and see what is committed. The last position is a row that each
transaction updates last, so positions are in the order of the commits, whoever commits.

Every commit is synced (`synchronous=FULL`): a watcher elsewhere outlives a power loss of this machine,
so an event that was sent must not come again with another seq. Group commit pays for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from lab_server.errors import NotFound, StoreError
from lab_server.messages import events as codec
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest
from lab_server.store import blocks, event_log, history_table, migrations, schema, value_index
from lab_server.store import idempotency as idempotency_keys
from lab_server.store.agent_table import AgentTable
from lab_server.store.databases.members import Member
from lab_server.store.databases.urls import open_database
from lab_server.store.portable.prepared import Prepared
from lab_server.store.protocol import (
    IdempotencyRecord,
    NewSeriesChunk,
    StoredEvent,
)
from lab_server.store.rows import new_row_of, progress_of, row_of
from lab_server.store.search_table import SearchTable
from lab_server.store.sql_reads import SqlReads, run_in
from lab_server.store.transactions import LogTransactions, NewEvents
from lab_server.store.writer import Completion, GroupWriter

T = TypeVar("T")

_DELETED_AT_ONCE: Final = 50
_SECRET_TRIES: Final = 50
_SECRET_PAUSE_S: Final = 0.1

_runs, _idempotency_records, _secrets = schema.runs, schema.idempotency_records, schema.secrets


def _update_of_run(columns: Iterable[str]) -> Prepared:
    return Prepared(
        _runs.update()
        .where(
            _runs.c.id == sa.bindparam("row_id"), _runs.c.last_seq == sa.bindparam("row_last_seq")
        )
        .values({name: sa.bindparam(name) for name in columns})
    )


_UPDATE_RUN: Final = _update_of_run(row_of(Run("", RunRequest(""))))
_UPDATE_PROGRESS: Final = _update_of_run(progress_of(Run("", RunRequest(""))))


class SqlStore(SqlReads):
    """Runs and events in a SQL database. One server writes; on PostgreSQL others may read.

    Args:
        url: "sqlite:////var/lib/lab/lab.db" or "postgresql://USER@HOST/DATABASE".
        make_room: frees disk space and says whether it could; called when SQLite's file cannot be
            opened, which needs some.
        server_id: the same for servers of which only one can run, such as those of one home; after a
            crash the next one need not wait for the lease of the one before.
        address: where other servers reach this one.
        home: the id of the home that it serves files from.
        may_follow: whether to read along where another server writes; else that is an error.
        when_replaced: called, in some thread, when another server has taken over.

    Attributes:
        searches: the searches, in the same database.
        agents: the credentials of agents, there too.

    Raises:
        StoreRefused: If the database cannot be used, or is no store.
        StoreError: If the database is another server's.
    """

    def __init__(
        self,
        url: str,
        make_room: Callable[[], bool] = lambda: False,
        server_id: str = "",
        *,
        address: str = "",
        home: str = "",
        may_follow: bool = False,
        when_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(open_database(url, make_room, address, home))
        self._when_replaced = when_replaced
        try:
            migrations.prepare(self._database)
            self._leader = self._database.join(server_id, when_replaced)
            self._check_leader(may_follow)
        except DBAPIError as error:
            self._database.close()
            raise self._database.error(error) from error
        except StoreError:
            self._database.close()
            raise
        self._writer = GroupWriter(self._database.write_engine, LogTransactions(self._database))
        # runs that have not ended, as their rows are
        self._committed: dict[str, Run] = {}
        self.searches = SearchTable(self._write, self._read)
        self.agents = AgentTable(self._write, self._read)

    def _check_leader(self, may_follow: bool) -> None:
        if self._leader and not may_follow:
            raise StoreError(
                f"the server {self._leader} is using the store {self._database.place}; stop it, or"
                " choose another store"
            )

    @property
    def leader(self) -> str:
        """The address of the server that writes, as last seen; empty when it is this one."""
        return self._leader

    @property
    def lease_age_s(self) -> float:
        """Seconds since this server's lease was renewed; 0 where none is needed."""
        return self._database.lease_age_s

    async def members(self) -> tuple[Member, ...]:
        """Return every server of the store that is known; none on SQLite, which only one can use."""
        return await self._read(self._database.members)

    async def clock(self) -> Callable[[], float]:
        """Return a clock, in seconds since 1970, that all servers of the store have in common."""
        then_s = await self._read(self._database.time_s)
        begin = time.monotonic()
        return lambda: then_s + time.monotonic() - begin

    def observe_writes(self, observer: Callable[[float], None]) -> None:
        """Tell an observer the seconds of each transaction, in the thread that writes."""
        self._writer.observer = observer

    async def try_to_lead(self, server_id: str = "") -> bool:
        """Become the server that writes if there is none; return whether this one is now."""

        def join() -> str:
            return self._database.join(server_id, self._when_replaced)

        if self._leader:
            try:
                self._leader = await asyncio.to_thread(join)
            except DBAPIError as error:
                raise self._database.error(error) from error
        return not self._leader

    async def wait_for_events(self, timeout_s: float) -> None:
        """Return when another server has committed events, or after some time."""
        try:
            await asyncio.to_thread(self._database.wait_for_events, timeout_s)
        except DBAPIError as error:
            raise self._database.error(error) from error

    async def secret(self, name: str, proposal: bytes) -> bytes:
        """Return a secret that all servers of this store have in common; the proposal if it has none."""

        def read(connection: Connection) -> bytes | None:
            query = select(_secrets.c.value).where(_secrets.c.name == name)
            return connection.execute(query).scalar()

        def add(connection: Connection) -> bytes:
            known = read(connection)
            if known is None:
                connection.execute(_secrets.insert(), {"name": name, "value": proposal})
            return known or proposal

        known = await self._read(read)
        for _ in range(_SECRET_TRIES):
            if known is not None or not self._leader:
                break
            await asyncio.sleep(_SECRET_PAUSE_S)  # the leader has just begun, and adds it soon
            known = await self._read(read)
        return await self._write(add) if known is None else known

    # ---- writing

    async def create(self, run: Run, idempotency: IdempotencyRecord | None) -> Run:
        """See Store."""

        def work(connection: Connection) -> Run:
            if idempotency is not None:
                known = idempotency_keys.find(connection, idempotency.key)
                if known is not None:
                    idempotency.check(known[0].fingerprint)
                    return run_in(connection, known[1])
            connection.execute(_runs.insert(), new_row_of(run))
            value_index.add(connection, run)
            idempotency_keys.add(connection, idempotency, run.id)
            return run

        return await self._write(work)

    async def commit(
        self,
        run: Run,
        events: Sequence[EncodedEvent] = (),
        idempotency: IdempotencyRecord | None = None,
        then: Callable[[tuple[StoredEvent, ...]], object] = lambda _: None,
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        is_progress = _is_progress(self._committed.pop(run.id, None), run)
        row = progress_of(run) if is_progress else row_of(run)
        row |= {"row_id": run.id, "row_last_seq": run.last_seq - len(events)}
        update = _UPDATE_PROGRESS if is_progress else _UPDATE_RUN
        new_events = NewEvents(
            run.id,
            tuple(
                (seq, new.kind, codec.with_seq(new.payload, seq))
                for seq, new in enumerate(events, run.last_seq - len(events) + 1)
            ),
        )

        def work(connection: Connection) -> Any:
            value_index.update(connection, run, row)
            if update.execute(connection, row) != 1:
                last_seq = run_in(connection, run.id).last_seq
                raise StoreError(
                    f"run {run.id} has {last_seq} events, so its next cannot be {run.last_seq}"
                    " and the ones before; another process wrote to it"
                )
            idempotency_keys.add(connection, idempotency, run.id)
            return new_events

        def committed(stored: tuple[StoredEvent, ...]) -> None:
            if not run.state.is_terminal:
                self._committed[run.id] = run
            then(stored)

        completion: Completion[tuple[StoredEvent, ...]] = Completion()
        return await self._write(work, completion, committed)

    async def delete(self, run_id: str) -> None:
        """See Store."""

        def delete_run(connection: Connection) -> bool:
            connection.execute(
                _idempotency_records.delete().where(_idempotency_records.c.run_id == run_id)
            )
            value_index.drop(connection, run_id)
            return connection.execute(_runs.delete().where(_runs.c.id == run_id)).rowcount > 0

        self._committed.pop(run_id, None)
        if not await self._write(delete_run):
            raise NotFound("run", run_id)

    async def purge(self, run_id: str) -> None:
        """See Store.

        The events go in pieces, so that other runs' commits need not wait for a big log.
        """

        def delete_history(connection: Connection) -> None:
            history_table.drop(connection, run_id)

        def delete_events(connection: Connection) -> bool:
            return event_log.delete_some(connection, run_id, _DELETED_AT_ONCE)

        await self._write(delete_history)
        while await self._write(delete_events):
            pass

    async def compact(self, run_id: str, last_seq: int) -> None:
        """See Store."""
        while True:
            events = await self._read(
                lambda connection: event_log.first_rows(connection, run_id, last_seq)
            )
            if not events:
                return
            block = await asyncio.to_thread(blocks.pack, events)
            if not await self._write(partial(event_log.replace_rows, block=block)):
                return  # the run was deleted, or somebody else compacts it

    async def write_history(
        self,
        run_id: str,
        after_seq: int,
        last_seq: int,
        removed: Sequence[int],
        added: Sequence[NewSeriesChunk],
    ) -> bool:
        """See Store."""
        return await self._write(
            lambda connection: history_table.write(
                connection, run_id, after_seq, last_seq, removed, added
            )
        )

    async def drop_history(self, run_id: str) -> None:
        """See Store."""
        await self._write(lambda connection: history_table.drop(connection, run_id))

    async def close(self) -> None:
        """See Store; closing twice is fine."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Close from a thread that may wait."""
        self._writer.close()
        self._readers.shutdown()
        self._database.close()

    # ---- the database

    async def _write(
        self,
        work: Callable[[Connection], T],
        future: asyncio.Future[T] | None = None,
        then: Callable[[T], object] = lambda _: None,
    ) -> T:
        future = future or asyncio.get_running_loop().create_future()
        try:
            self._writer.submit(work, future, then)
            return await future
        except DBAPIError as error:
            raise self._database.error(error) from error
        except RuntimeError as error:
            raise StoreError(str(error)) from error


def _is_progress(before: Run | None, run: Run) -> bool:
    """Whether nothing else of a row changes; most commits are so, and write to the index of lists alone."""
    return (
        before is not None
        and before.request is run.request
        and (before.state, before.queue_key) == (run.state, run.queue_key)
    )
