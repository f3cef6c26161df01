"""What every store must do with the rows of runs: keep each field, each id and each key once."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pickle

import pytest

from lab_server.errors import AlreadyExists, NotFound, StoreError
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState, TrainerProcess
from lab_server.store import IdempotencyRecord, RunQuery, Store
from lab_server.where import parse
from tests.contracts.stores import a_run, grow, ids, some_events


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


async def test_a_brief_of_a_run_has_all_but_its_last_values(store: Store) -> None:
    run = await store.create(a_run("r1", metrics={"loss": 1.0}, extremes={"loss": (0, 1)}), None)
    await store.create(a_run("r2"), None)
    assert await store.briefs(["r1", "nobody"]) == {
        "r1": dataclasses.replace(run, metrics={}, extremes={})
    }


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


async def test_a_run_with_the_id_of_a_deleted_one_has_nothing_of_it(store: Store) -> None:
    await store.create(
        a_run("r1", state=RunState.FAILED, configs={"lr": 1}, metrics={"loss": 1.0}), None
    )
    await store.delete("r1")
    await store.create(a_run("r1", configs={"other": 2}), None)

    assert await ids(store, RunQuery(where=parse("config.lr = none and loss = none"))) == ["r1"]
