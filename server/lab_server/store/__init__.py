"""Where runs and their event logs are kept."""

from lab_server.store.protocol import (
    IdempotencyRecord,
    RunPage,
    RunQuery,
    Store,
    StoredEvent,
)
from lab_server.store.search_protocol import SearchQuery, SearchStore, StoredEntry
from lab_server.store.sql import SqlStore

__all__ = [
    "IdempotencyRecord",
    "RunPage",
    "RunQuery",
    "SearchQuery",
    "SearchStore",
    "SqlStore",
    "Store",
    "StoredEntry",
    "StoredEvent",
]
