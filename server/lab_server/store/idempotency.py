"""The table of idempotency keys: which request made which run, or changed it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from lab_server.store import schema
from lab_server.store.protocol import IdempotencyRecord

_idempotency_records = schema.idempotency_records


def find(connection: Connection, key: str) -> tuple[IdempotencyRecord, str] | None:
    """Return a key's record and the id of its run, None for a new key."""
    row = connection.execute(
        select(_idempotency_records).where(_idempotency_records.c.key == key)
    ).first()
    return (IdempotencyRecord(row.key, row.fingerprint), row.run_id) if row else None


def add(connection: Connection, idempotency: IdempotencyRecord | None, run_id: str) -> None:
    """Note which run a key is for.

    Raises:
        AlreadyExists: If it was used for another request.
    """
    if idempotency is None:
        return
    known = find(connection, idempotency.key)
    if known is not None:
        idempotency.check(known[0].fingerprint)
        return
    connection.execute(
        _idempotency_records.insert(),
        {"key": idempotency.key, "fingerprint": idempotency.fingerprint, "run_id": run_id},
    )
