"""A search's log, read from the store and folded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from lab_server.messages import search_log
from lab_server.model.search_log import LogEntry
from lab_server.search.fold import Search
from lab_server.store import SearchStore, StoredEntry

_AT_ONCE = 1000


async def load(store: SearchStore, search_id: str) -> Search:
    """Return a search as its log tells.

    Raises:
        NotFound: If there is none.
    """
    record = await store.get(search_id)
    entries: list[LogEntry] = []
    while found := await store.entries(search_id, len(entries), _AT_ONCE):
        # not in the event loop: a long log takes a second
        entries += await asyncio.to_thread(_decode, found)
    return await asyncio.to_thread(Search, search_id, record.owner, entries)


def _decode(found: Sequence[StoredEntry]) -> list[LogEntry]:
    return [search_log.decode(entry.payload) for entry in found]
