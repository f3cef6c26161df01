"""The stores that keep the contract, and what its tests do with each of them. A new one is added to `MAKERS`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest
from lab_server.store import RunQuery, SqlStore, Store, StoredEvent
from lab_server.where import Name, parse_name
from tests.memory_store import MemoryStore

MAKERS: dict[str, Callable[[Path, str], Store]] = {
    "sqlite": lambda folder, _: SqlStore(f"sqlite:///{folder}/lab.db"),
    "postgresql": lambda _, url: SqlStore(url),
    "memory": lambda *_: MemoryStore(),
}
Make = Callable[[], Store]


def a_run(run_id: str, **changes: object) -> Run:
    request = RunRequest("mnist", name=run_id)
    run = Run(run_id, request, create_time_ns=int("0" + re.sub(r"\D", "", run_id)))
    return dataclasses.replace(run, **changes)  # type: ignore[arg-type]


def some_events(num: int = 1, size: int = 20) -> list[EncodedEvent]:
    return [events.encode_log(1, index, ["x" * size])[0] for index in range(num)]


async def grow(
    store: Store, run: Run, new: list[EncodedEvent]
) -> tuple[Run, tuple[StoredEvent, ...]]:
    run = dataclasses.replace(run, last_seq=run.last_seq + len(new))
    return run, await store.commit(run, new)


def named(text: str) -> Name:
    name = parse_name(text)
    assert name is not None
    return name


async def ids(store: Store, query: RunQuery) -> list[str]:
    """Return the ids of all pages, two runs a page."""
    found: list[str] = []
    query = dataclasses.replace(query, limit=2)
    while True:
        page = await store.list(query)
        assert len(page.runs) <= 2
        found += [run.id for run in page.runs]
        assert len(found) == len(set(found)), "a run comes on two pages"
        if not page.next_after:
            return found
        query = dataclasses.replace(query, after=page.next_after)
