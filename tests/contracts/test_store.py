"""What every store must do. A new store is added to `MAKERS` and is done when this passes."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pickle
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_rpc.run_names import FIELDS
from lab_server.errors import AlreadyExists, InvalidRequest, NotFound, StoreError
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState, TrainerProcess
from lab_server.store import (
    IdempotencyRecord,
    RunQuery,
    SqlStore,
    Store,
    StoredEvent,
    blocks,
    event_log,
)
from lab_server.store.protocol import History, NewSeriesChunk
from lab_server.where import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Kind,
    Name,
    Not,
    parse,
    parse_name,
)
from lab_server.where.condition import Operator
from tests.memory_store import MemoryStore

MAKERS: dict[str, Callable[[Path, str], Store]] = {
    "sqlite": lambda folder, _: SqlStore(f"sqlite:///{folder}/lab.db"),
    "postgresql": lambda _, url: SqlStore(url),
    "memory": lambda *_: MemoryStore(),
}
Make = Callable[[], Store]


@pytest.fixture(params=MAKERS, scope="module")
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return what makes empty stores of a kind."""
    kind = request.param
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    return lambda: MAKERS[kind](
        tmp_path_factory.mktemp("store"), postgres.new_url() if postgres else ""
    )


@pytest.fixture
async def store(make_store: Make) -> AsyncIterator[Store]:
    store = make_store()
    yield store
    await store.close()


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


async def test_a_run_comes_back_with_every_field_as_it_was(store: Store) -> None:
    run = Run(
        id="20261123-1",
        request=RunRequest(
            experiment="mnist",
            overrides={
                "i": 1,
                "f": 1.0,
                "b": True,
                "s": "ü\x00\\u0000\uf8ff",
                "l": [1, [2.5, None]],
                "n": None,
            },
            run_order=(("set_seed",), ("a", "b")),
            models=("model",),
            options=RunOptions(-3, "cuda:1", 1.5, 0, ("sqlite",)),
            name="nä\0me\uf8ff",
            tags=("a", "b c"),
            notes="two\nlines",
            parent=RunParent("other", 7),
        ),
        owner="ann",
        state=RunState.STOPPING,
        reason="because",
        attempt=2,
        num_retries=1,
        step=2**40,
        total_steps=3,
        steps_per_second=0.1,
        metrics={"loss": 0.1 + 0.2, "up": math.inf, "down": -math.inf, 'odd ".name': 5e-324},
        slot="cuda:1#0",
        queue_key=2**60,
        create_time_ns=1,
        start_time_ns=2,
        end_time_ns=3,
        spool_offset=2**33,
        process=TrainerProcess(17, 12345),
        checkpoint_step=0,
        config_hash="ab",
        configs={"i": 1, "f": 1.0, "b": True, "s": "ü", "l": [1, [2.5, None]], "inf": -math.inf},
        extremes={"loss": (0.1, 0.5), 'odd ".name': (-1e300, 5e-324)},
        has_stale_extremes=True,
        is_stop_requested=True,
        has_resumed=True,
    )
    await store.create(run, None)

    found = await store.get(run.id)

    assert found == run
    assert [type(v) for v in found.request.overrides.values()] == [
        int,
        float,
        bool,
        str,
        list,
        type(None),
    ]


async def test_each_commit_keeps_what_it_changes_also_what_changes_seldom(store: Store) -> None:
    run = a_run("r1")
    await store.create(run, None)
    changes: list[dict[str, object]] = [
        {"state": RunState.QUEUED, "queue_key": 3},
        {"state": RunState.RUNNING},
        {"step": 1, "metrics": {"loss": 0.5}, "extremes": {"loss": (0.5, 0.5)}},
        {"step": 2, "reason": "a detail"},
        {"request": dataclasses.replace(run.request, tags=("a",), notes="n", name="other")},
        {"step": 3, "metrics": {}},
        {"queue_key": 4, "step": 4},
        {"step": 5, "state": RunState.STOPPING},
        {"step": 6, "state": RunState.STOPPED, "queue_key": 0},
        {"request": dataclasses.replace(run.request, tags=("a", "b"))},
    ]
    for change in changes:
        run, _ = await grow(store, dataclasses.replace(run, **change), some_events())  # type: ignore[arg-type]
        assert await store.get("r1") == run
    query = RunQuery(tags=frozenset({"b"}))
    assert [r.id for r in (await store.list(query)).runs] == ["r1"]


async def test_a_metric_that_is_nan_stays_one(store: Store) -> None:
    await store.create(a_run("r1", metrics={"loss": math.nan}), None)

    assert math.isnan((await store.get("r1")).metrics["loss"])


async def test_an_unknown_run_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no run 'r1'"):
        await store.get("r1")
    with pytest.raises(NotFound):
        await store.commit(a_run("r1"))
    with pytest.raises(NotFound):
        await store.delete("r1")


async def test_an_id_is_used_once(store: Store) -> None:
    await store.create(a_run("r1"), None)

    with pytest.raises(StoreError):
        await store.create(a_run("r1"), None)


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


async def test_a_refused_commit_changes_nothing(store: Store) -> None:
    run = await store.create(a_run("r1"), IdempotencyRecord("key", "f"))

    with pytest.raises(AlreadyExists):
        await store.commit(
            dataclasses.replace(run, last_seq=1, state=RunState.QUEUED),
            some_events(1),
            IdempotencyRecord("key", "other"),
        )

    assert await store.get("r1") == run
    assert await store.events("r1", 0, 10**6) == ()


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


def a_chunk(metric: str, first_step: int, num_points: int = 10) -> NewSeriesChunk:
    last_step = first_step + num_points - 1
    data = f"{metric} {first_step}".encode()
    return NewSeriesChunk(metric, first_step, last_step, num_points, b"s " + data, b"p " + data)


async def test_a_history_is_taken_from_seq_to_seq_and_its_chunks_are_replaced(store: Store) -> None:
    run, other = await store.create(a_run("r1"), None), await store.create(a_run("r2"), None)
    run, _ = await grow(store, run, some_events(5))
    await grow(store, other, some_events(1))
    assert await store.runs_with_history_behind() == ("r1", "r2")

    assert await store.write_history(
        "r1", 0, 3, [], [a_chunk("b", 20), a_chunk("b", -5), a_chunk("a", 0)]
    )
    assert await store.write_history("r2", 0, 1, [], [a_chunk("a", 7)])
    first = await store.history("r1")
    assert await store.runs_with_history_behind() == ("r1",)
    (cut,) = [chunk.id for chunk in first.chunks if chunk.first_step == 20]
    assert await store.write_history("r1", 3, 5, [cut], [a_chunk("b", 20, 4)])

    found = await store.history("r1")
    assert found.last_seq == 5
    assert [(c.metric, c.first_step, c.last_step, c.num_points) for c in found.chunks] == [
        ("a", 0, 9, 10),
        ("b", -5, 4, 10),
        ("b", 20, 23, 4),
    ]
    only_a = await store.history("r1", lambda name: name == "a")
    assert only_a == History(5, found.chunks[:1])
    ids = [chunk.id for chunk in found.chunks]
    assert await store.chunk_data([cut, *ids], "points") == {
        ids[0]: b"p a 0",
        ids[1]: b"p b -5",
        ids[2]: b"p b 20",
    }
    assert await store.chunk_data(ids[:1], "summary") == {ids[0]: b"s a 0"}
    assert await store.runs_with_history_behind() == ()
    assert cut not in ids


async def test_the_histories_of_several_runs_are_read_at_once(store: Store) -> None:
    for run_id in ("r1", "r2", "r3"):
        await grow(store, await store.create(a_run(run_id), None), some_events(2))
    await store.write_history("r1", 0, 2, [], [a_chunk("b", 5), a_chunk("a", 0), a_chunk("B", 0)])
    await store.write_history("r2", 0, 1, [], [a_chunk("b", 20), a_chunk("b", 9)])

    found = await store.histories(["r2", "nobody", "r1"], lambda name: name != "a")

    assert {run_id: history.last_seq for run_id, history in found.items()} == {
        "r1": 2,
        "r2": 1,
        "nobody": 0,
    }
    assert [(c.metric, c.first_step) for c in found["r1"].chunks] == [("B", 0), ("b", 5)]
    assert [(c.metric, c.first_step) for c in found["r2"].chunks] == [("b", 9), ("b", 20)]
    assert found["nobody"].chunks == ()
    assert await store.histories([]) == {}


async def test_a_brief_of_a_run_has_all_but_its_last_values(store: Store) -> None:
    run = await store.create(a_run("r1", metrics={"loss": 1.0}, extremes={"loss": (0, 1)}), None)
    await store.create(a_run("r2"), None)
    assert await store.briefs(["r1", "nobody"]) == {
        "r1": dataclasses.replace(run, metrics={}, extremes={})
    }


async def test_a_history_that_somebody_else_took_further_is_left_alone(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    await grow(store, run, some_events(5))
    assert await store.write_history("r1", 0, 3, [], [a_chunk("a", 0)])
    before = await store.history("r1")

    for run_id, after_seq in (("r1", 0), ("r1", 4), ("nobody", 0)):
        removed = [chunk.id for chunk in before.chunks]
        assert not await store.write_history(run_id, after_seq, 5, removed, [a_chunk("a", 9)])

    assert await store.history("r1") == before
    assert await store.history("nobody") == History(0, ())


async def test_a_history_goes_when_it_is_dropped_or_its_run_is_purged(store: Store) -> None:
    for run_id in ("r1", "r2", "r3"):
        await grow(store, await store.create(a_run(run_id), None), some_events(1))
        await store.write_history(run_id, 0, 1, [], [a_chunk("a", 0)])

    await store.drop_history("r1")
    await store.delete("r2")
    await store.purge("r2")

    assert await store.history("r1") == await store.history("r2") == History(0, ())
    assert len((await store.history("r3")).chunks) == 1
    assert await store.runs_with_history_behind() == ("r1",)
    await store.create(a_run("r2"), None)
    assert await store.write_history("r2", 0, 0, [], [a_chunk("a", 0)])


async def test_the_data_of_thousands_of_chunks_is_read_at_once(store: Store) -> None:
    await grow(store, await store.create(a_run("r1"), None), some_events(1))
    await store.write_history("r1", 0, 1, [], [a_chunk("a", 10 * i) for i in range(1200)])

    ids = [chunk.id for chunk in (await store.history("r1")).chunks]

    assert len(await store.chunk_data(ids, "points")) == 1200
    assert await store.write_history("r1", 1, 1, ids, [])
    assert (await store.history("r1")).chunks == ()


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


async def test_the_same_key_gives_the_same_run(store: Store) -> None:
    first = await store.create(a_run("r1"), IdempotencyRecord("key", "f"))
    again = await store.create(a_run("r2"), IdempotencyRecord("key", "f"))

    assert again == first
    assert await store.idempotency_record("key") == (IdempotencyRecord("key", "f"), "r1")
    assert await store.idempotency_record("other") is None
    with pytest.raises(NotFound):
        await store.get("r2")


async def test_a_key_with_another_request_is_refused_with_a_sentence(store: Store) -> None:
    await store.create(a_run("r1"), IdempotencyRecord("key", "f"))

    with pytest.raises(
        AlreadyExists, match="this idempotency key was used for another request"
    ) as caught:
        await store.create(a_run("r2"), IdempotencyRecord("key", "g"))

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_a_commit_can_bring_a_key(store: Store) -> None:
    run = await store.create(a_run("r1"), None)
    await store.commit(run, idempotency=IdempotencyRecord("start", "f"))
    await store.commit(run, idempotency=IdempotencyRecord("start", "f"))

    assert await store.idempotency_record("start") == (IdempotencyRecord("start", "f"), "r1")


async def test_a_deleted_run_leaves_nothing(store: Store) -> None:
    run = await store.create(a_run("r1"), IdempotencyRecord("key", "f"))
    await store.create(a_run("r2"), None)
    await grow(store, run, some_events(2))
    await store.delete("r1")
    await store.purge("r1")
    await store.purge("r1")

    assert await store.events("r1", 0, 10**6) == ()
    assert await store.idempotency_record("key") is None
    assert await store.ids_with_prefix("r") == ("r2",)
    assert sum((await store.counts()).values()) == 1
    await store.create(a_run("r1"), IdempotencyRecord("key", "g"))


async def test_ids_are_found_by_prefix_taken_literally(store: Store) -> None:
    for run_id in ("ab1", "ab2", "ab3", "b1", "AB4"):
        await store.create(a_run(run_id), None)

    assert await store.ids_with_prefix("ab") == ("ab1", "ab2")
    assert await store.ids_with_prefix("ab", limit=9) == ("ab1", "ab2", "ab3")
    assert await store.ids_with_prefix("ab2") == ("ab2",)
    for nothing in ("a%", "_b", "ab1\x00", "\U0010ffff", "abc"):
        assert await store.ids_with_prefix(nothing) == ()


async def test_runs_are_filtered(store: Store) -> None:
    request = RunRequest("mnist", name="First one", tags=("x", "y"))
    await store.create(a_run("r1", request=request, owner="ann"), None)
    request = RunRequest("other", name="second", tags=("x", "%"))
    await store.create(a_run("r2", request=request, state=RunState.RUNNING), None)

    for query, expected in [
        (RunQuery(), ["r2", "r1"]),
        (RunQuery(experiment="mnist"), ["r1"]),
        (RunQuery(experiment="mnis"), []),
        (RunQuery(states=frozenset({RunState.RUNNING, RunState.FAILED})), ["r2"]),
        (RunQuery(tags=frozenset("x")), ["r2", "r1"]),
        (RunQuery(tags=frozenset("xy")), ["r1"]),
        (RunQuery(tags=frozenset("%")), ["r2"]),
        (RunQuery(tags=frozenset({"X"})), []),
        (RunQuery(name_contains="st o"), ["r1"]),
        (RunQuery(name_contains="first"), []),
        (RunQuery(name_contains="%"), []),
        (RunQuery(owner="ann"), ["r1"]),
        (RunQuery(owner=""), ["r2"]),
        (RunQuery(experiment="mnist", tags=frozenset("x"), owner="ann"), ["r1"]),
    ]:
        assert await ids(store, query) == expected, query


@pytest.mark.parametrize(
    ("order_by", "ascending"),
    [
        ("create_time", ["r1", "r2", "r3", "r4", "r5"]),
        ("name", ["r5", "r2", "r1", "r3", "r4"]),
        ("step", ["r1", "r2", "r5", "r4", "r3"]),
        ("state", ["r2", "r3", "r1", "r5", "r4"]),
    ],
)
async def test_pages_follow_the_order(store: Store, order_by: str, ascending: list[str]) -> None:
    for run_id, name, step, state in [
        ("r1", "b", 0, RunState.RUNNING),
        ("r2", "aé", 0, RunState.CREATED),
        ("r3", "é", 9, RunState.QUEUED),
        ("r4", "ü", 8, RunState.FAILED),
        ("r5", "", 7, RunState.COMPLETED),
    ]:
        request = RunRequest("mnist", name=name)
        await store.create(a_run(run_id, request=request, step=step, state=state), None)

    assert await ids(store, RunQuery(order_by=named(order_by), is_descending=False)) == ascending
    assert await ids(store, RunQuery(order_by=named(order_by))) == ascending[::-1]


async def test_runs_without_the_metric_come_last_in_either_order(store: Store) -> None:
    for run_id, metrics in [
        ("r1", {"acc": 0.5, "z": 1.0}),
        ("r2", {}),
        ("r3", {"acc": -1.0}),
        ("r4", {"acc": math.nan}),
        ("r5", {"acc": math.inf}),
        ("r6", {"acc": 0.5}),
        ("r7", {"acc": -math.inf}),
    ]:
        await store.create(a_run(run_id, metrics=metrics), None)

    ascending = await ids(store, RunQuery(order_by=named("metrics.acc"), is_descending=False))
    descending = await ids(store, RunQuery(order_by=named("metrics.acc")))

    assert ascending == ["r7", "r3", "r1", "r6", "r5", "r2", "r4"]
    assert descending == ["r5", "r6", "r1", "r3", "r7", "r4", "r2"]


@pytest.mark.parametrize("name", ["a.b", 'quo"te', "$", "sp ace", "'", "ü", "\\"])
async def test_a_metric_of_any_name_orders(store: Store, name: str) -> None:
    await store.create(a_run("r1", metrics={name: 1.0, "other": 3.0}), None)
    await store.create(a_run("r2", metrics={name: 2.0, "other": 2.0}), None)

    assert await ids(store, RunQuery(order_by=named(f"metrics.{name}"))) == ["r2", "r1"]


async def test_all_runs_are_counted_when_asked(store: Store) -> None:
    for run_id in ("r1", "r2", "r3"):
        await store.create(a_run(run_id, step=int(run_id[1])), None)

    where = parse("step >= 2")
    page = await store.list(RunQuery(where=where, limit=1, is_counted=True))
    assert (len(page.runs), page.num_all) == (1, 2)
    assert (await store.list(RunQuery(where=where, limit=1))).num_all is None


async def test_a_number_beyond_those_of_a_field_is_compared_with_it(store: Store) -> None:
    await store.create(
        a_run("r1", request=RunRequest("mnist", options=RunOptions(priority=3))), None
    )

    assert await ids(store, RunQuery(where=parse("priority < 3000000000"))) == ["r1"]
    assert await ids(store, RunQuery(where=parse("priority > 3000000000"))) == []


async def test_names_are_those_of_the_newest_runs(store: Store) -> None:
    await store.create(a_run("r1", configs={"old": 1}, metrics={"loss": 1.0}), None)
    await store.create(a_run("r2", configs={"lr": 1}, metrics={"acc": 1.0, 'a"b': 2.0}), None)

    assert await store.names(1) == {"lr", "acc", 'a"b'}
    assert await store.names(9) == {"lr", "acc", 'a"b', "old", "loss"}


@pytest.mark.parametrize(
    "after",
    ["x", "{}", "[1]", "[1,2]", '[1,"r1",2]', '[[[]],"a",1]', '[[1],"a"]', '[[1],"a",3,4]', "\x00"],
)
async def test_a_page_token_of_somebody_else_is_refused(store: Store, after: str) -> None:
    await store.create(a_run("r1"), None)

    with pytest.raises(InvalidRequest, match="page token"):
        await store.list(RunQuery(after=after))


async def test_unfinished_runs_come_in_the_order_of_the_queue(store: Store) -> None:
    for run_id, state, priority, queue_key in [
        ("r1", RunState.QUEUED, 0, 3),
        ("r2", RunState.QUEUED, 0, 1),
        ("r3", RunState.QUEUED, 5, 9),
        ("r4", RunState.RUNNING, 0, 2),
        ("r5", RunState.COMPLETED, 9, 0),
        ("r6", RunState.CREATED, 9, 0),
    ]:
        request = RunRequest("mnist", options=RunOptions(priority=priority))
        await store.create(a_run(run_id, request=request, state=state, queue_key=queue_key), None)

    assert [run.id for run in await store.unfinished()] == ["r3", "r2", "r4", "r1"]


async def test_a_page_may_leave_out_metrics(store: Store) -> None:
    told = {"loss": math.nan, "accuracy": 0.5}
    await store.create(
        dataclasses.replace(a_run("r1"), metrics=told, extremes={"loss": (0.1, 2.0)}), None
    )
    (run,) = (await store.list(RunQuery(metrics=frozenset({"loss", "none"})))).runs
    assert (list(run.metrics), run.extremes) == (["loss"], {})
    assert math.isnan(run.metrics["loss"])
    (run,) = (await store.list(RunQuery(metrics=frozenset()))).runs
    assert run.metrics == {}
    (run,) = (await store.list(RunQuery())).runs
    assert (run.metrics["accuracy"], run.extremes) == (0.5, {"loss": (0.1, 2.0)})


async def test_every_state_is_counted(store: Store) -> None:
    await store.create(a_run("r1"), None)
    await store.create(a_run("r2", state=RunState.FAILED), None)

    assert await store.counts() == dict.fromkeys(RunState, 0) | {
        RunState.CREATED: 1,
        RunState.FAILED: 1,
    }


async def test_commits_of_many_runs_at_once_all_land(store: Store) -> None:
    runs = [await store.create(a_run(f"r{index}"), None) for index in range(20)]

    async def write(run: Run) -> None:
        for _ in range(1, 11):
            run, _ = await grow(store, run, some_events(1))

    await asyncio.gather(*map(write, runs))

    found = await store.events_across(0, 10**6)
    for run in runs:
        assert [e.seq for e in found if e.run_id == run.id] == list(range(1, 11))
    assert len({e.position for e in found}) == 200


async def test_one_refused_commit_does_not_fail_those_beside_it(store: Store) -> None:
    runs = [await store.create(a_run(f"r{index}"), None) for index in range(9)]
    commits = [
        store.commit(dataclasses.replace(run, last_seq=1), some_events(1 if index % 3 else 2))
        for index, run in enumerate(runs)
    ]

    results = await asyncio.gather(*commits, return_exceptions=True)

    assert [isinstance(result, StoreError) for result in results] == [True, False, False] * 3
    assert len(await store.events_across(0, 10**6)) == 6


TEXTS = st.sampled_from(
    [
        "",
        "a",
        "\0",
        "\uf8ff",
        "\uf8ff0",
        "\\u0000",
        "A",
        "b",
        "ä",
        "%",
        "_",
        'a"b',
        "a\\b",
        "🦊",
        "a a",
        "long" * 99,
    ]
)
TAGS = TEXTS.filter(lambda text: "\0" not in text)  # no tag has one; SQLite's JSON ends there
NUMBERS = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1e-300, 2.0, 1e300, math.inf, math.nan])
FINITE = st.sampled_from([-1.5, 0.0, 2.0, 1e300])
VALUES = NUMBERS | TEXTS | st.booleans() | st.integers(-1, 3) | st.none() | st.just(2**60)
KEYS = st.sampled_from(["lr", "acc", "state", "a.b", 'quo"te', "ü", "$", "long" * 99])
KEYS_AND_TEXTS = KEYS | TEXTS.filter(bool)
METRICS = st.dictionaries(KEYS_AND_TEXTS, NUMBERS, max_size=3)
EXTREMES = st.dictionaries(KEYS_AND_TEXTS, st.tuples(FINITE, FINITE), max_size=3)
RUNS = st.lists(
    st.builds(
        Run,
        id=st.just(""),
        request=st.builds(
            RunRequest,
            experiment=st.just("mnist"),
            name=TEXTS,
            notes=TEXTS,
            tags=st.sets(TAGS, max_size=3).map(tuple),
            options=st.builds(RunOptions, priority=st.integers(-1, 3), device=TEXTS),
            parent=st.none() | st.builds(RunParent, TEXTS, st.just(1)),
            overrides=st.dictionaries(KEYS, VALUES, max_size=1),
        ),
        owner=TEXTS,
        state=st.sampled_from(RunState),
        reason=TEXTS,
        metrics=METRICS,
        extremes=EXTREMES,
        configs=st.dictionaries(KEYS_AND_TEXTS, VALUES | st.lists(VALUES, max_size=2), max_size=3),
        step=st.sampled_from([-1, 0, 1, 2**62]),
        checkpoint_step=st.none() | st.integers(0, 3),
        create_time_ns=st.integers(0, 3),
        start_time_ns=st.integers(0, 2 * 10**9),
        end_time_ns=st.sampled_from([0, 3 * 10**9]),
    ),
    max_size=7,
)
NAMES = (
    st.sampled_from(list(FIELDS)).map(named)
    | st.builds(Name, st.sampled_from([Kind.CONFIG, Kind.VALUE]), KEYS)
    | st.builds(Name, st.just(Kind.METRIC), KEYS, st.sampled_from(["last", "min", "max"]))
)
OPERANDS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: TEXTS,
    Kind.TAGS: TEXTS,
    Kind.STATE: st.sampled_from([state.value for state in RunState]),
    Kind.NUMBER: st.integers(-1, 3),
    Kind.TIME: st.integers(0, 3),
    Kind.DURATION: st.floats(0, 12),
    Kind.METRIC: NUMBERS,
    Kind.CONFIG: VALUES,
    Kind.VALUE: VALUES,
}


@st.composite
def comparisons(draw: st.DrawFn) -> Compare:
    name = draw(NAMES)
    operand = draw(OPERANDS[name.kind] | st.none())
    signs: list[Operator] = ["="]
    is_number = type(operand) in (int, float) and operand == operand
    if is_number:
        signs += ["<", "<=", ">", ">="]
    if isinstance(operand, str) and name.kind is not Kind.STATE:
        signs += ["~"]
    return Compare(name, draw(st.sampled_from(signs)), operand)


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    comparisons(),
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: AllOf(tuple(some)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda some: AnyOf(tuple(some)))
    ),
    max_leaves=4,
)
QUERIES = st.builds(
    RunQuery,
    states=st.frozensets(st.sampled_from(RunState), max_size=2),
    tags=st.frozensets(TAGS, max_size=1),
    name_contains=TEXTS,
    owner=st.none() | TEXTS,
    order_by=NAMES.filter(lambda name: name.kind is not Kind.TAGS),
    where=st.none() | CONDITIONS,
    now_ns=st.integers(0, 10**10),
    is_descending=st.booleans(),
)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.one_of(
            st.none(),  # the run is deleted
            st.fixed_dictionaries({"state": st.sampled_from(RunState)}),
            st.fixed_dictionaries({"metrics": METRICS}),
            st.fixed_dictionaries(
                {"state": st.sampled_from(RunState), "metrics": METRICS, "extremes": EXTREMES}
            ),
        ),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(runs=RUNS, changes=CHANGES, queries=st.lists(QUERIES, min_size=4, max_size=16))
def test_a_store_lists_as_the_one_in_memory(
    make_store: Make,
    runs: list[Run],
    changes: list[tuple[int, dict[str, Any] | None]],
    queries: list[RunQuery],
) -> None:
    async def lists(store: Store) -> list[list[str]]:
        there = {i: dataclasses.replace(run, id=f"r{i}") for i, run in enumerate(runs)}
        await asyncio.gather(*(store.create(run, None) for run in there.values()))
        for index, change in changes:
            if index not in there:
                continue
            if change is None:
                await store.delete(there.pop(index).id)
            else:
                there[index] = dataclasses.replace(there[index], **change)
                await store.commit(there[index])
        try:
            return [await ids(store, query) for query in queries]
        finally:
            await store.close()

    assert asyncio.run(lists(make_store())) == asyncio.run(lists(MemoryStore()))


LIVES = [
    # what a run has, one state after the other
    [(RunState.RUNNING, 1.0), (RunState.RUNNING, 2.0), (RunState.COMPLETED, 2.0)],
    [(RunState.RUNNING, 1.0), (RunState.COMPLETED, 1.0), (RunState.COMPLETED, 1.0)],
    # its last steps come with its end, and a resume takes them back
    [(RunState.RUNNING, 1.0), (RunState.STOPPED, 2.0), (RunState.QUEUED, 2.0)],
    [(RunState.STOPPED, 2.0), (RunState.RUNNING, None), (RunState.FAILED, None)],
    [(RunState.STOPPED, 2.0), (RunState.RUNNING, 2.0), (RunState.RUNNING, 3.0)],
    [(RunState.STOPPED, 2.0), (RunState.STARTING, 1.0), (RunState.QUEUED, 1.0)],
    [(RunState.COMPLETED, 2.0), (RunState.COMPLETED, 3.0), (RunState.QUEUED, 4.0)],
    [(RunState.COMPLETED, 2.0), (RunState.COMPLETED, math.nan)],
]


@pytest.mark.parametrize("life", LIVES)
async def test_a_metric_is_found_as_it_is_whatever_becomes_of_its_run(
    store: Store, life: list[tuple[RunState, float | None]]
) -> None:
    values = ("none", "nan", "1", "2", "3", "4", "5")
    run = await store.create(a_run("r1"), None)
    for state, loss in life:
        metrics = {} if loss is None else {"loss": loss}
        extremes = {} if loss is None or math.isnan(loss) else {"loss": (loss - 1, loss + 1)}
        run = dataclasses.replace(run, state=state, metrics=metrics, extremes=extremes)
        await store.commit(run)

        expected = "none" if loss is None else f"{loss:.0f}"
        lasts = [v for v in values if await ids(store, RunQuery(where=parse(f"loss = {v}")))]
        maxima = [v for v in values if await ids(store, RunQuery(where=parse(f"max(loss) = {v}")))]
        assert lasts == [expected]
        assert maxima == ["none" if not extremes else f"{extremes['loss'][1]:.0f}"]


async def test_a_run_with_the_id_of_a_deleted_one_has_nothing_of_it(store: Store) -> None:
    await store.create(
        a_run("r1", state=RunState.FAILED, configs={"lr": 1}, metrics={"loss": 1.0}), None
    )
    await store.delete("r1")
    await store.create(a_run("r1", configs={"other": 2}), None)

    assert await ids(store, RunQuery(where=parse("config.lr = none and loss = none"))) == ["r1"]


async def test_a_condition_may_have_more_names_than_a_database_joins(store: Store) -> None:
    names = [f"option_{index}" for index in range(100)]
    configs = dict.fromkeys(names, 1)
    await store.create(a_run("r1", configs=configs), None)
    await store.create(a_run("r2", configs=configs | {names[-1]: 2}), None)
    where = parse(" and ".join(f"{name} = 1" for name in names))

    assert await ids(store, RunQuery(where=where)) == ["r1"]


KINDS = ("log", "state", "metrics", "")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("commit"),
            st.integers(0, 2),
            st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 40)), max_size=12),
        ),
        st.tuples(st.just("compact"), st.integers(0, 2), st.integers(0, 40)),
        st.tuples(st.just("delete"), st.integers(0, 2), st.just(0)),
    ),
    max_size=14,
)
READS = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(1, 400), st.frozensets(st.sampled_from(KINDS), max_size=2)
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(actions=ACTIONS, reads=READS, span=st.integers(1, 30), block_bytes=st.integers(1, 400))
def test_a_store_reads_as_the_one_in_memory_whatever_was_compacted(
    make_store: Make,
    actions: list[tuple[str, int, Any]],
    reads: list[tuple[int, int, frozenset[str]]],
    span: int,
    block_bytes: int,
) -> None:
    async def found(store: Store) -> list[object]:
        runs = [await store.create(a_run(f"r{index}"), None) for index in range(3)]
        for what, index, argument in actions:
            run = runs[index]
            match what:
                case "commit":
                    new = [
                        EncodedEvent(kind, events.encode_log(1, 1, ["x" * size])[0].payload)
                        for kind, size in argument
                    ]
                    runs[index], _ = await grow(store, run, new)
                case "compact":
                    await store.compact(run.id, argument)
                case "delete":
                    await store.delete(run.id)
                    await store.purge(run.id)
                    runs[index] = await store.create(a_run(run.id), None)
        results: list[object] = [await store.last_position()]
        for after, max_bytes, kinds in reads:
            results.append(await store.events_across(after, max_bytes, kinds))
            results += [await store.events(run.id, after, max_bytes, kinds) for run in runs]
        await store.close()
        return results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "_MIN_NEW_BLOCK", 6)
        patch.setattr(blocks, "_MIN_EVENTS_BY_COLUMNS", 2)
        patch.setattr(blocks, "MAX_SPAN", span)
        patch.setattr(blocks, "MAX_BLOCK_BYTES", block_bytes)
        assert asyncio.run(found(make_store())) == asyncio.run(found(MemoryStore()))
