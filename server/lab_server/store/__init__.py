"""Where runs and their event logs are kept."""

from lab_server.store.base import (
    NewEvent,
    RunPage,
    RunQuery,
    Store,
    StoredEvent,
    Submission,
)

__all__ = ["NewEvent", "RunPage", "RunQuery", "Store", "StoredEvent", "Submission"]
