"""What is read of runs and events in a SQL database: in a few threads, by connections of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from lab_server.errors import NotFound, StoreError
from lab_server.model.run import Run, RunState
from lab_server.store import event_log, history_table, idempotency, schema
from lab_server.store.databases.database import NUM_READERS, Database
from lab_server.store.listing import BRIEFS, page_query, token_of
from lab_server.store.portable.dialects import begins_with
from lab_server.store.portable.json_values import keys_of
from lab_server.store.protocol import (
    History,
    IdempotencyRecord,
    RunPage,
    RunQuery,
    StoredEvent,
)
from lab_server.store.rows import run_of

T = TypeVar("T")

_UNFINISHED: Final = [s.value for s in RunState if s.has_process or s is RunState.QUEUED]

_runs = schema.runs
_IS_LAST_POSITION: Final = schema.meta.c.name == schema.LAST_POSITION
_LAST_POSITION: Final = select(schema.meta.c.value).where(_IS_LAST_POSITION)


class SqlReads:
    """The reads of a store; each sees what is committed.

    Args:
        database: that the store is in.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix="store-reader")

    async def history(
        self, run_id: str, is_wanted: Callable[[str], bool] = lambda _: True
    ) -> History:
        """See Store."""
        return (await self.histories([run_id], is_wanted))[run_id]

    async def histories(
        self, run_ids: Sequence[str], is_wanted: Callable[[str], bool] = lambda _: True
    ) -> dict[str, History]:
        """See Store."""
        return await self._read(
            lambda connection: history_table.read(connection, run_ids, is_wanted)
        )

    async def chunk_data(
        self, ids: Sequence[int], what: Literal["summary", "points"]
    ) -> dict[int, bytes]:
        """See Store."""
        return await self._read(lambda connection: history_table.read_data(connection, ids, what))

    async def runs_with_history_behind(self) -> tuple[str, ...]:
        """See Store."""
        return await self._read(history_table.behind)

    async def idempotency_record(self, key: str) -> tuple[IdempotencyRecord, str] | None:
        """See Store."""
        return await self._read(lambda connection: idempotency.find(connection, key))

    async def get(self, run_id: str) -> Run:
        """See Store."""
        return await self._read(lambda connection: run_in(connection, run_id))

    async def briefs(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """See Store."""

        def work(connection: Connection) -> dict[str, Run]:
            found = connection.execute(BRIEFS, {"ids": list(run_ids)}).mappings()
            return {row["id"]: run_of(row) for row in found}

        return await self._read(work)

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """See Store."""
        is_match = begins_with(_runs.c.id, prefix)
        query = select(_runs.c.id).where(is_match).order_by(_runs.c.id).limit(limit)
        return await self._read(lambda connection: tuple(connection.execute(query).scalars()))

    async def list(self, query: RunQuery) -> RunPage:
        """See Store; raises InvalidRequest for an unknown order or an invalid token."""
        statement = page_query(query)

        def work(connection: Connection) -> RunPage:
            rows = connection.execute(statement.page).all()
            page = rows[: query.limit]
            has_more = len(rows) > len(page)
            return RunPage(
                tuple(run_of(row._mapping, query.metrics) for row in page),
                token_of(page[-1]) if has_more and page else "",
                statement.num_all(connection, rows),
            )

        return await self._read(work)

    async def names(self, num_runs: int) -> frozenset[str]:
        """See Store."""
        newest = select(_runs).order_by(_runs.c.create_time_ns.desc()).limit(num_runs).subquery()
        keys = [keys_of(newest.c[column]) for column in ("configs", "metrics")]
        queries = [select(each.c.key).select_from(newest.join(each, sa.true())) for each in keys]
        return await self._read(
            lambda connection: frozenset(
                key for query in queries for key in connection.execute(query.distinct()).scalars()
            )
        )

    async def unfinished(self) -> tuple[Run, ...]:
        """See Store."""
        query = (
            select(_runs)
            .where(_runs.c.state.in_(_UNFINISHED))
            .order_by(_runs.c.priority.desc(), _runs.c.queue_key, _runs.c.id)
        )
        return await self._read(
            lambda connection: tuple(run_of(row) for row in connection.execute(query).mappings())
        )

    async def counts(self) -> dict[RunState, int]:
        """See Store."""
        query = select(_runs.c.state, sa.func.count()).group_by(_runs.c.state)
        rows = await self._read(lambda connection: connection.execute(query).all())
        return dict.fromkeys(RunState, 0) | {RunState(state): number for state, number in rows}

    async def events(
        self, run_id: str, after_seq: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        return await self._read(
            lambda connection: event_log.read_run(connection, run_id, after_seq, max_bytes, kinds)
        )

    async def events_across(
        self, after_position: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        return await self._read(
            lambda connection: event_log.read_across(connection, after_position, max_bytes, kinds)
        )

    async def last_position(self) -> int:
        """See Store."""
        return await self._read(_last_position)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def read() -> T:
            with self._database.read_engine.connect() as connection:
                return work(connection)

        def read_again_on_a_new_connection() -> T:
            try:
                return read()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return read()  # the connection was an old one: the database was restarted since

        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers, read_again_on_a_new_connection)
        except DBAPIError as error:
            raise self._database.error(error) from error
        except RuntimeError as error:
            raise StoreError("the store is closed") from error


def run_in(connection: Connection, run_id: str) -> Run:
    """Return a run.

    Raises:
        NotFound: If there is none of this id.
    """
    row = connection.execute(select(_runs).where(_runs.c.id == run_id)).mappings().first()
    if row is None:
        raise NotFound("run", run_id)
    return run_of(row)


def _last_position(connection: Connection) -> int:
    return int(connection.execute(_LAST_POSITION).scalar_one())
