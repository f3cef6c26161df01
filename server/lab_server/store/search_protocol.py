"""What the server needs of a store of searches: a row and a log for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lab_server.model.search import SearchRecord, SearchState
from lab_server.store.protocol import IdempotencyRecord


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry of a search's log, as bytes."""

    seq: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Which searches to list, the newest first; every set filter must hold.

    Attributes:
        before: the id of the last search of the page before.
    """

    experiment: str = ""
    states: frozenset[SearchState] = frozenset()
    limit: int = 100
    before: str = ""


class SearchStore(Protocol):
    """Keeps searches and their logs. Every method may raise StoreError; what returned is on disk."""

    async def create(
        self,
        record: SearchRecord,
        payloads: Sequence[bytes],
        idempotency: IdempotencyRecord | None,
    ) -> SearchRecord:
        """Add a search with its first entries; with a known key, return the search of that key.

        Raises:
            AlreadyExists: If the key is known with another fingerprint.
        """

    async def with_key(self, idempotency: IdempotencyRecord) -> SearchRecord | None:
        """Return the search that was created with a key, None if none was.

        Raises:
            AlreadyExists: If the key is known with another fingerprint.
        """

    async def append(self, record: SearchRecord, payloads: Sequence[bytes]) -> None:
        """Write a search's row and its next entries, which end at `record.last_seq`, in one transaction."""

    async def get(self, search_id: str) -> SearchRecord:
        """Return a search's row.

        Raises:
            NotFound: If there is none.
        """

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """Return ids that begin so."""

    async def list(self, query: SearchQuery) -> tuple[SearchRecord, ...]:
        """Return up to `query.limit` searches, the newest first."""

    async def unfinished(self) -> tuple[SearchRecord, ...]:
        """Return every search that has not ended, the oldest first."""

    async def entries(self, search_id: str, after_seq: int, limit: int) -> tuple[StoredEntry, ...]:
        """Return up to `limit` entries with a larger seq, in order."""

    async def delete(self, search_id: str) -> None:
        """Remove a search with its log.

        Raises:
            NotFound: If there is none.
        """
