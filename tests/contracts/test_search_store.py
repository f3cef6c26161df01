"""What every store of searches must do. A new one is added to `MAKERS` and is done when this passes."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lab_server.errors import AlreadyExists, NotFound, StoreError
from lab_server.model.search import SearchRecord, SearchState
from lab_server.store import IdempotencyRecord, SearchQuery, SearchStore, SqlStore

MAKERS: dict[str, Callable[[Path, str], SqlStore]] = {
    "sqlite": lambda folder, _: SqlStore(f"sqlite:///{folder}/lab.db"),
    "postgresql": lambda _, url: SqlStore(url),
}


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchStore]:
    kind = request.param
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    opened = MAKERS[kind](tmp_path, postgres.new_url() if postgres else "")
    yield opened.searches
    await opened.close()


def a_search(number: int, **changes: object) -> SearchRecord:
    record = SearchRecord(f"s-{number}", "mnist", "olga", SearchState.RUNNING, number, 1, b"view")
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


async def test_a_search_is_kept_with_its_log(store: SearchStore) -> None:
    record = a_search(1)
    assert await store.create(record, [b"created"], None) == record
    more = dataclasses.replace(record, last_seq=3, state=SearchState.PAUSED, summary=b"new")
    await store.append(more, [b"asked", b"paused"])
    assert await store.get("s-1") == more
    entries = await store.entries("s-1", 0, 10)
    assert [(e.seq, e.payload) for e in entries] == [(1, b"created"), (2, b"asked"), (3, b"paused")]
    assert [e.seq for e in await store.entries("s-1", 1, 1)] == [2]
    assert not await store.entries("s-1", 3, 10)


async def test_a_search_may_be_created_with_several_entries(store: SearchStore) -> None:
    await store.create(a_search(1, last_seq=2), [b"created", b"taken over"], None)
    entries = await store.entries("s-1", 0, 10)
    assert [(e.seq, e.payload) for e in entries] == [(1, b"created"), (2, b"taken over")]


async def test_entries_that_do_not_go_on_are_refused_and_change_nothing(
    store: SearchStore,
) -> None:
    record = a_search(1)
    await store.create(record, [b"created"], None)
    with pytest.raises(StoreError, match="does not go on after entry 4"):
        await store.append(dataclasses.replace(record, last_seq=5), [b"late"])
    assert await store.get("s-1") == record
    assert len(await store.entries("s-1", 0, 10)) == 1


async def test_the_same_key_gives_the_same_search(store: SearchStore) -> None:
    key = IdempotencyRecord("k", "print")
    first = await store.create(a_search(1), [b"created"], key)
    assert await store.create(a_search(2), [b"created"], key) == first
    with pytest.raises(AlreadyExists, match="this idempotency key was used for another request"):
        await store.create(a_search(3), [b"created"], IdempotencyRecord("k", "other"))
    assert [r.id for r in await store.list(SearchQuery())] == ["s-1"]
    assert await store.with_key(key) == first
    assert await store.with_key(IdempotencyRecord("other", "print")) is None
    with pytest.raises(AlreadyExists):
        await store.with_key(IdempotencyRecord("k", "other"))
    for number in (4, 5):  # without a key each is new
        await store.create(a_search(number), [b"created"], None)
    assert len(await store.list(SearchQuery())) == 3


async def test_lists_filter_and_go_on_behind_a_search(store: SearchStore) -> None:
    for number in range(5):
        state = SearchState.COMPLETED if number % 2 else SearchState.RUNNING
        experiment = "toy" if number == 4 else "mnist"
        await store.create(a_search(number, state=state, experiment=experiment), [b"c"], None)
    page = await store.list(SearchQuery(limit=2))
    assert [r.id for r in page] == ["s-4", "s-3"]
    page = await store.list(SearchQuery(limit=9, before="s-3"))
    assert [r.id for r in page] == ["s-2", "s-1", "s-0"]
    page = await store.list(SearchQuery(states=frozenset({SearchState.COMPLETED})))
    assert [r.id for r in page] == ["s-3", "s-1"]
    assert [r.id for r in await store.list(SearchQuery(experiment="toy"))] == ["s-4"]
    assert [r.id for r in await store.unfinished()] == ["s-0", "s-2", "s-4"]


async def test_ids_are_found_by_prefix_and_wildcards_are_none(store: SearchStore) -> None:
    for number in (1, 10, 2):
        await store.create(a_search(number), [b"c"], None)
    assert await store.ids_with_prefix("s-1") == ("s-1", "s-10")
    assert await store.ids_with_prefix("s-2") == ("s-2",)
    assert await store.ids_with_prefix("%") == ()


async def test_a_deleted_search_is_gone_with_its_log_and_key(store: SearchStore) -> None:
    key = IdempotencyRecord("k", "print")
    await store.create(a_search(1), [b"created"], key)
    await store.delete("s-1")
    for call in (store.get("s-1"), store.delete("s-1")):
        with pytest.raises(NotFound, match="there is no search 's-1'"):
            await call
    assert not await store.entries("s-1", 0, 10)
    assert (await store.create(a_search(2), [b"created"], key)).id == "s-2"
