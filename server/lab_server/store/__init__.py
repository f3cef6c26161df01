"""Where runs and their event logs are kept."""

from lab_server.store.protocol import (
    RunPage,
    RunQuery,
    Store,
    StoredEvent,
    Submission,
)
from lab_server.store.sql import SqlStore

__all__ = ["RunPage", "RunQuery", "SqlStore", "Store", "StoredEvent", "Submission"]
