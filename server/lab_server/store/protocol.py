"""What the server needs of a store: runs, their event logs, and idempotency keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from lab_server.errors import AlreadyExists
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunState
from lab_server.where import CREATE_TIME, Condition, Name


class StoredEvent(NamedTuple):
    """An event of a run's log. A tuple, as logs have millions of them.

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

    def check(self, fingerprint: str) -> None:
        """Check that the request that used this key before had the same fingerprint.

        Raises:
            AlreadyExists: If it was another one.
        """
        if fingerprint != self.fingerprint:
            # not the key itself: it has been made unique for its caller
            raise AlreadyExists("this idempotency key was used for another request; use a new key")


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs to list; every set filter must hold.

    Attributes:
        where: a condition that must hold, too; None is no condition.
        order_by: runs that do not have it come last.
        after: the place of the last run of the page before, as `Store.list` gave it.
        now_ns: the time that ages, and durations of what still trains, are told by.
        is_counted: whether to say how many runs there are on all pages.
        metrics: names; the runs have the last values of these alone, and no extremes, which is read
            much faster where runs have thousands. None for everything.
    """

    experiment: str = ""
    states: frozenset[RunState] = frozenset()
    tags: frozenset[str] = frozenset()
    name_contains: str = ""
    owner: str | None = None
    where: Condition | None = None
    order_by: Name = CREATE_TIME
    is_descending: bool = True
    limit: int = 100
    after: str = ""
    now_ns: int = 0
    is_counted: bool = False
    metrics: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, and where to go on.

    Attributes:
        next_after: empty when there are no more.
        num_all: the number of runs on all pages, when it was asked for.
    """

    runs: tuple[Run, ...]
    next_after: str
    num_all: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesChunk:
    """Points of one metric that follow each other, in a run's history.

    Attributes:
        id: of these points for ever; a chunk that changes is replaced by one with another id.
    """

    id: int
    metric: str
    first_step: int
    last_step: int
    num_points: int


@dataclass(frozen=True, slots=True)
class NewSeriesChunk:
    """A chunk to write, with what only its readers understand: `lab_server.watch.chunks`."""

    metric: str
    first_step: int
    last_step: int
    num_points: int
    summary: bytes
    points: bytes


@dataclass(frozen=True, slots=True)
class History:
    """What is folded of a run's metrics: all that its log says up to a seq.

    Attributes:
        chunks: by metric and step; those of a metric do not overlap.
    """

    last_seq: int
    chunks: tuple[SeriesChunk, ...]


class Store(Protocol):
    """Keeps runs and events. Every method may raise StoreError; what returned is on disk."""

    @property
    def leader(self) -> str:
        """The address of the server that writes; empty when it is this one."""

    @property
    def lease_age_s(self) -> float:
        """Seconds since this server's lease was renewed; 0 where none is needed."""

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
        then: Callable[[tuple[StoredEvent, ...]], object] = lambda _: None,
    ) -> tuple[StoredEvent, ...]:
        """Write the run's row, its next events and an idempotency record in one transaction.

        A caller that is cancelled meanwhile is so when it is done.

        Args:
            run: as its row is going to be.
            events: they get the last of the seqs up to `run.last_seq`.
            idempotency: the record.
            then: called with the stored events in the event loop once they are on the disk, in the order of
                their positions, and before the caller goes on.
        """

    async def idempotency_record(self, key: str) -> tuple[IdempotencyRecord, str] | None:
        """Return the record of an idempotency key with its run's id, None without one."""

    async def get(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotFound: If there is none.
        """

    async def briefs(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by their ids, without their last values, and without those that there are not."""

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """Return ids that begin so."""

    async def list(self, query: RunQuery) -> RunPage:
        """Return a page of runs."""

    async def names(self, num_runs: int) -> frozenset[str]:
        """Return the keys of all configs and metrics of so many runs, the newest."""

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

    async def history(
        self, run_id: str, is_wanted: Callable[[str], bool] = lambda _: True
    ) -> History:
        """Return a run's history of the wanted metrics; an empty one at seq 0 when there is none."""

    async def histories(
        self, run_ids: Sequence[str], is_wanted: Callable[[str], bool] = lambda _: True
    ) -> dict[str, History]:
        """Return what `history` does for each of some runs, in one read."""

    async def chunk_data(
        self, ids: Sequence[int], what: Literal["summary", "points"]
    ) -> dict[int, bytes]:
        """Return the summaries or the points of chunks, without those that are gone."""

    async def write_history(
        self,
        run_id: str,
        after_seq: int,
        last_seq: int,
        removed: Sequence[int],
        added: Sequence[NewSeriesChunk],
    ) -> bool:
        """Take a history from one seq to another; False when it is not there, or the run is gone."""

    async def drop_history(self, run_id: str) -> None:
        """Forget a history; it can be made again from the log."""

    async def runs_with_history_behind(self) -> tuple[str, ...]:
        """Return the ids of the runs whose history does not reach to the end of their log."""

    async def delete(self, run_id: str) -> None:
        """Remove a run with its idempotency records; its events and history are left for `purge`.

        Raises:
            NotFound: If there is no such run.
        """

    async def purge(self, run_id: str) -> None:
        """Remove the events and the history of a run that was deleted; again is fine."""

    async def close(self) -> None:
        """Write what waits and close."""
