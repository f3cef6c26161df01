"""What every store must do with events: number them, read them in order, and compact them unnoticed."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from lab_server.errors import StoreError
from lab_server.messages import events
from lab_server.model.run import RunState
from lab_server.store import Store
from tests.contracts.stores import a_run, grow, some_events


async def test_events_carry_their_seq_and_are_read_in_order(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    run, first = await grow(store, run, some_events(3))
    run, second = await grow(store, run, some_events(2))

    assert await store.events("r1", 0, 10**6) == first + second
    assert await store.events("r1", 3, 10**6) == second
    assert await store.events("r1", 5, 10**6) == ()
    assert [events.decode(e.payload).seq for e in first + second] == [1, 2, 3, 4, 5]
    assert (await store.get("r1")).last_seq == 5


async def test_events_that_do_not_go_on_where_the_log_ends_are_refused(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    run, _ = await grow(store, run, some_events(2))

    for last_seq, new in [
        (2, some_events(1)),  # a double
        (3, some_events(2)),
        (4, some_events(1)),  # a gap
        (3, []),
        (1, []),
    ]:
        with pytest.raises(StoreError):
            await store.commit(dataclasses.replace(run, last_seq=last_seq), new)

    assert len(await store.events("r1", 0, 10**6)) == 2


async def test_a_read_is_bounded_in_bytes_but_gives_at_least_one_event(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    await grow(store, run, some_events(5, size=1000))

    assert [e.seq for e in await store.events("r1", 0, 1)] == [1]
    assert [e.seq for e in await store.events("r1", 1, 2500)] == [2, 3]
    assert [e.seq for e in await store.events_across(0, 2500)] == [1, 2]


async def test_events_are_read_by_kind(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    state = events.encode_state(1, 1, RunState.RUNNING)
    await grow(store, run, [*some_events(1), state, *some_events(1)])

    for kinds, seqs in [({"state"}, [2]), ({"log"}, [1, 3]), ({"log", "state"}, [1, 2, 3])]:
        assert [e.seq for e in await store.events("r1", 0, 10**6, frozenset(kinds))] == seqs
        assert [e.seq for e in await store.events_across(0, 10**6, frozenset(kinds))] == seqs


@pytest.mark.slow
@pytest.mark.parametrize("num_at_once", [1, 100])
async def test_compacted_events_are_read_as_before(store: Store, num_at_once: int) -> None:
    run, other = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    for _ in range(0, 200, num_at_once):
        run, _ = await grow(store, run, some_events(num_at_once))
        other, _ = await grow(store, other, some_events(num_at_once, size=33))
    before = await store.events_across(0, 10**6)
    of_run = tuple(event for event in before if event.run_id == "r1")
    last_position = await store.last_position()

    await store.compact("r1", 150)

    assert await store.events_across(0, 10**6) == before
    assert await store.events("r1", 0, 10**6) == of_run
    assert await store.last_position() == last_position
    for seq in (0, 1, 100, 149, 150, 151, 199, 200):
        assert await store.events("r1", seq, 10**6) == of_run[seq:]
    run, later = await grow(store, run, some_events(3))
    await store.compact("r1", 10**9)
    assert await store.events("r1", 0, 10**6) == of_run + later
    assert await store.events_across(0, 10**6) == before + later
    assert await store.last_position() == later[-1].position


async def test_compacting_what_is_compacted_or_is_not_there_changes_nothing(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    _, new = await grow(store, run, some_events(5))

    await asyncio.gather(store.compact("r1", 5), store.compact("r1", 3), store.compact("r1", 5))
    await store.compact("nobody", 5)

    assert await store.events("r1", 0, 10**6) == new


async def test_a_compacted_run_can_be_deleted(store: Store) -> None:
    run, other = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    run, _ = await grow(store, run, some_events(200))
    other, kept = await grow(store, other, some_events(2))
    run, _ = await grow(store, run, some_events(3))
    last_position = await store.last_position()
    await store.compact("r1", 200)
    await store.compact("r2", 2)

    await store.delete("r1")
    await store.purge("r1")

    assert await store.events("r1", 0, 10**6) == ()
    assert await store.events_across(0, 10**6) == kept
    assert await store.last_position() == last_position


async def test_positions_grow_over_all_runs(store: Store) -> None:
    one, two = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    assert await store.last_position() == 0
    one, _ = await grow(store, one, some_events(2))
    two, _ = await grow(store, two, some_events(2))
    one, _ = await grow(store, one, some_events(1))

    found = await store.events_across(0, 10**6)

    assert [(e.run_id, e.seq) for e in found] == [
        ("r1", 1),
        ("r1", 2),
        ("r2", 1),
        ("r2", 2),
        ("r1", 3),
    ]
    assert sorted({e.position for e in found}) == [e.position for e in found]
    assert await store.last_position() == found[-1].position
    assert await store.events_across(found[2].position, 10**6) == found[3:]


async def test_a_position_is_not_given_twice_when_the_newest_run_is_deleted(store: Store) -> None:
    one, two = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    await grow(store, two, some_events(3))
    before = await store.last_position()
    await store.delete("r2")
    await store.purge("r2")

    _, (event,) = await grow(store, one, some_events(1))

    assert event.position > before
