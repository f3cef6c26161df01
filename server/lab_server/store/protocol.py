"""What the server needs of a store: runs, their event logs, and idempotency keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunState


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a run's log.

    Attributes:
        position: grows with every event of every run; unique, with gaps.
        kind: the set field of RunEvent.kind: "state", "metrics", "log", ...
        payload: an encoded RunEvent with its seq.
    """

    position: int
    run_id: str
    seq: int
    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """An idempotency key with the fingerprint of the request that used it."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list; every set filter must hold.

    Attributes:
        order_by: "create_time", "name", "state", "step" or "metrics.NAME".
        after: the sort key of the last run of the page before, as `Store.list` gave it.
    """

    experiment: str = ""
    states: frozenset[RunState] = frozenset()
    tags: frozenset[str] = frozenset()
    name_contains: str = ""
    owner: str | None = None
    order_by: str = "create_time"
    is_descending: bool = True
    limit: int = 100
    after: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, and where to go on (empty when there are no more)."""

    runs: tuple[Run, ...]
    next_after: str


class Store(Protocol):
    """Keeps runs and events. Every method may raise StoreError; what returned is on disk."""

    async def create(self, run: Run, idempotency: IdempotencyRecord | None) -> Run:
        """Add a run; with a known key and the same fingerprint, return the run of that key.

        Raises:
            AlreadyExists: If the key is known with another fingerprint.
        """

    async def commit(
        self,
        run: Run,
        events: Sequence[EncodedEvent] = (),
        idempotency: IdempotencyRecord | None = None,
    ) -> tuple[StoredEvent, ...]:
        """Write the run's row, its next events and an idempotency record in one transaction.

        The events get the last of the seqs up to `run.last_seq`.
        """

    async def idempotency_record(self, key: str) -> tuple[IdempotencyRecord, str] | None:
        """Return the record of an idempotency key with its run's id, None without one."""

    async def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotFound: If there is none.
        """

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """Return ids that begin so."""

    async def list(self, query: RunQuery) -> RunPage:
        """Return a page of runs."""

    async def unfinished(self) -> tuple[Run, ...]:
        """Return every run that is QUEUED or has a process, in the order of the queue."""

    async def counts(self) -> dict[RunState, int]:
        """Return how many runs are in each state."""

    async def events(
        self, run_id: str, after_seq: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """Return events with a larger seq, in order, at least one if there is one, up to max_bytes."""

    async def events_across(
        self, after_position: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """Return events of all runs with a larger position, in order."""

    async def last_position(self) -> int:
        """Return the position of the newest event, 0 for none."""

    async def compact(self, run_id: str, last_seq: int) -> None:
        """Keep a run's events up to a seq in less space; what is read stays the same."""

    async def delete(self, run_id: str) -> None:
        """Remove a run with its events and idempotency records."""

    async def close(self) -> None:
        """Write what waits and close."""
