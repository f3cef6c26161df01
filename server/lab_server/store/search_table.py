"""The statements of searches: a row and a log for each, beside the runs in the same database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping, select

from lab_server.errors import NotFound, StoreError
from lab_server.model.search import SearchRecord, SearchState
from lab_server.store import schema
from lab_server.store.portable.dialects import begins_with
from lab_server.store.protocol import IdempotencyRecord
from lab_server.store.search_protocol import SearchQuery, StoredEntry

T = TypeVar("T")

_searches, _entries = schema.searches, schema.search_entries
_UNFINISHED: Final = [state.value for state in SearchState if not state.is_terminal]


class Access(Protocol):
    """Runs a piece of work in a transaction: one that writes, or one that only reads."""

    def __call__(self, work: Callable[[Connection], T]) -> Awaitable[T]: ...


class SearchTable:
    """A SearchStore in a SQL database.

    Args:
        write: runs work on the connection that writes.
        read: runs work on one that reads.
    """

    def __init__(self, write: Access, read: Access) -> None:
        self._write, self._read = write, read

    async def create(
        self,
        record: SearchRecord,
        payloads: Sequence[bytes],
        idempotency: IdempotencyRecord | None,
    ) -> SearchRecord:
        """See SearchStore."""

        def work(connection: Connection) -> SearchRecord:
            known = _by_key(connection, idempotency) if idempotency else None
            if known is not None:
                return known
            key, fingerprint = (
                (idempotency.key, idempotency.fingerprint) if idempotency else (None, "")
            )
            row = {**_row_of(record), "idempotency_key": key, "fingerprint": fingerprint}
            connection.execute(_searches.insert(), row)
            _insert(connection, record, payloads)
            return record

        return await self._write(work)

    async def with_key(self, idempotency: IdempotencyRecord) -> SearchRecord | None:
        """See SearchStore."""
        return await self._read(lambda connection: _by_key(connection, idempotency))

    async def append(self, record: SearchRecord, payloads: Sequence[bytes]) -> None:
        """See SearchStore."""
        first_seq = record.last_seq - len(payloads)

        def work(connection: Connection) -> None:
            row = _row_of(record)
            changed = connection.execute(
                _searches.update()
                .where(_searches.c.id == record.id, _searches.c.last_seq == first_seq)
                .values({name: row[name] for name in ("state", "last_seq", "summary")})
            )
            if changed.rowcount != 1:
                raise StoreError(
                    f"the log of search {record.id} does not go on after entry {first_seq};"
                    " another process wrote to it"
                )
            _insert(connection, record, payloads)

        await self._write(work)

    async def get(self, search_id: str) -> SearchRecord:
        """See SearchStore."""
        query = select(_searches).where(_searches.c.id == search_id)
        row = await self._read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            raise NotFound("search", search_id)
        return _record_of(row)

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """See SearchStore."""
        id_ = _searches.c.id
        query = select(id_).where(begins_with(id_, prefix)).order_by(id_).limit(limit)
        return await self._read(lambda connection: tuple(connection.execute(query).scalars()))

    async def list(self, query: SearchQuery) -> tuple[SearchRecord, ...]:
        """See SearchStore."""
        statement = select(_searches).order_by(_searches.c.id.desc()).limit(query.limit)
        if query.experiment:
            statement = statement.where(_searches.c.experiment == query.experiment)
        if query.states:
            names = sorted(state.value for state in query.states)
            statement = statement.where(_searches.c.state.in_(names))
        if query.before:
            statement = statement.where(_searches.c.id < query.before)
        return await self._records(statement)

    async def unfinished(self) -> tuple[SearchRecord, ...]:
        """See SearchStore."""
        return await self._records(
            select(_searches).where(_searches.c.state.in_(_UNFINISHED)).order_by(_searches.c.id)
        )

    async def entries(self, search_id: str, after_seq: int, limit: int) -> tuple[StoredEntry, ...]:
        """See SearchStore."""
        query = (
            select(_entries.c.seq, _entries.c.payload)
            .where(_entries.c.search_id == search_id, _entries.c.seq > after_seq)
            .order_by(_entries.c.seq)
            .limit(limit)
        )
        rows = await self._read(lambda connection: connection.execute(query).all())
        return tuple(StoredEntry(row.seq, row.payload) for row in rows)

    async def delete(self, search_id: str) -> None:
        """See SearchStore."""

        def work(connection: Connection) -> bool:
            connection.execute(_entries.delete().where(_entries.c.search_id == search_id))
            gone = connection.execute(_searches.delete().where(_searches.c.id == search_id))
            return gone.rowcount > 0

        if not await self._write(work):
            raise NotFound("search", search_id)

    async def _records(self, statement: sa.Select[Any]) -> tuple[SearchRecord, ...]:
        rows = await self._read(lambda connection: connection.execute(statement).mappings().all())
        return tuple(map(_record_of, rows))


def _by_key(connection: Connection, idempotency: IdempotencyRecord) -> SearchRecord | None:
    query = select(_searches).where(_searches.c.idempotency_key == idempotency.key)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    idempotency.check(row["fingerprint"])
    return _record_of(row)


def _insert(connection: Connection, record: SearchRecord, payloads: Sequence[bytes]) -> None:
    rows = [
        {"search_id": record.id, "seq": seq, "payload": payload}
        for seq, payload in enumerate(payloads, record.last_seq - len(payloads) + 1)
    ]
    if rows:
        connection.execute(_entries.insert(), rows)


def _row_of(record: SearchRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "experiment": record.experiment,
        "owner": record.owner,
        "state": record.state.value,
        "create_time_ns": record.create_time_ns,
        "last_seq": record.last_seq,
        "summary": record.summary,
    }


def _record_of(row: RowMapping) -> SearchRecord:
    return SearchRecord(
        row["id"],
        row["experiment"],
        row["owner"],
        SearchState(row["state"]),
        row["create_time_ns"],
        row["last_seq"],
        row["summary"],
    )
