"""How a transaction of the log ends: the server checks in, and the new events get their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from lab_server.store import event_log, schema
from lab_server.store.databases.database import Database
from lab_server.store.portable.prepared import Prepared
from lab_server.store.protocol import StoredEvent

_TAKE_POSITIONS: Final = Prepared(
    schema.meta.update()
    .where(schema.meta.c.name == sa.bindparam("row_name"))
    .values(value=schema.meta.c.value + sa.bindparam("num"))
    .returning(schema.meta.c.value)
)


@dataclass(frozen=True, slots=True)
class NewEvents:
    """Events on their way into the log; they get their positions when the transaction ends.

    Attributes:
        events: kinds and encoded events, with their seq, in order.
    """

    run_id: str
    events: tuple[tuple[int, str, bytes], ...]

    def placed(self, first: int) -> tuple[StoredEvent, ...]:
        """Return the events at positions from this one on."""
        return tuple(
            StoredEvent(position, self.run_id, *event)
            for position, event in enumerate(self.events, first)
        )


class LogTransactions:
    """Ends transactions: the server checks in, and the new events get their positions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.begin = database.begin
        self.commit = database.commit
        self.is_outage = database.is_outage
        self.was_committed = database.was_committed

    def finish(self, connection: Connection, results: Sequence[Any]) -> list[Any]:
        """See Transactions."""
        self._database.check_in(connection)
        num_events = sum(len(r.events) for r in results if isinstance(r, NewEvents))
        if not num_events:
            return [() if isinstance(result, NewEvents) else result for result in results]
        # others who commit wait for this row from here on
        taken = {"row_name": schema.LAST_POSITION, "num": num_events}
        last = _TAKE_POSITIONS.scalar(connection, taken)
        position = last - num_events + 1
        placed: list[Any] = []
        for result in results:
            if isinstance(result, NewEvents):
                placed.append(result.placed(position))
                position += len(result.events)
            else:
                placed.append(result)
        logs = [
            log
            for result, log in zip(results, placed, strict=True)
            if isinstance(result, NewEvents)
        ]
        event_log.insert(connection, logs)
        self._database.announce(connection)
        return placed
