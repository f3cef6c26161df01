"""What every store must do when it lists runs: filter, order, count and page."""

from __future__ import annotations

import dataclasses
import math

import pytest

from lab_server.errors import InvalidRequest
from lab_server.model.run import RunOptions, RunRequest, RunState
from lab_server.store import RunQuery, Store
from lab_server.where import parse
from tests.contracts.stores import a_run, ids, named


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


async def test_a_condition_may_have_more_names_than_a_database_joins(store: Store) -> None:
    names = [f"option_{index}" for index in range(100)]
    configs = dict.fromkeys(names, 1)
    await store.create(a_run("r1", configs=configs), None)
    await store.create(a_run("r2", configs=configs | {names[-1]: 2}), None)
    where = parse(" and ".join(f"{name} = 1" for name in names))

    assert await ids(store, RunQuery(where=where)) == ["r1"]
