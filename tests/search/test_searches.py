"""What a search does: verdicts, budgets, pauses, points, and why it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lab_core.errors import Violation
from lab_server.errors import (
    CheckCrashed,
    InvalidRequest,
    InvalidState,
    NotFound,
    QueueFull,
    StoreError,
)
from lab_server.model.domain import Choice, FloatRange
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.run import Run, RunState
from lab_server.model.search import (
    Budget,
    Direction,
    Objective,
    Reduction,
    Sampler,
    SearchRecord,
    SearchState,
    TrialState,
)
from lab_server.model.search_log import Asked, Ended, Paused
from lab_server.search.controller import Controller
from lab_server.search.fold import Search
from lab_server.supervisor.live_runs import run_to_completion
from tests.search.rig import GRID, PLANE, SearchRig, loss, spec

WRONG = {"a": Choice((1, 2)), "wrong": Choice(("", "raise", "nan", "missing"))}


def states(search: Search) -> list[TrialState]:
    return [trial.state for trial in search.trials]


async def test_a_grid_tries_every_point_once_and_finds_the_best(rig: SearchRig) -> None:
    search = await rig.ended(await rig.create(spec()))
    assert [dict(trial.params) for trial in search.trials] == [
        {"a": a, "b": b} for a in (1, 2, 3) for b in (0.5, 1.5)
    ]
    assert search.state is SearchState.COMPLETED
    assert search.reason == "all 6 trials are done"
    assert search.best is not None
    assert (dict(search.best.params), search.best.value) == (
        {"a": 2, "b": 0.5},
        loss({"a": 2, "b": 0.5}, 9),
    )
    assert search.num_steps == 6 * 9


async def test_each_trial_is_a_run_with_the_configs_name_and_seed(rig: SearchRig) -> None:
    wanted = spec(fixed={"steps": 3}, tags=("t",), notes="n")
    search = await rig.ended(await rig.create(wanted))
    for trial in search.trials:
        request = (await rig.runs.get(trial.run_id)).request
        assert dict(request.overrides) == {"steps": 3, **trial.params}
        assert (request.name, request.tags, request.notes) == (f"toy-{trial.number}", ("t",), "n")
        assert request.trial is not None
        assert request.trial.search_id == search.id
        assert request.trial.seed == trial.seed
    assert len({trial.seed for trial in search.trials}) == 6


async def test_each_trial_asks_for_the_code_that_it_was_planned_with(rig: SearchRig) -> None:
    first = await rig.ended(await rig.create(spec(max_trials=1)))
    rig.executor.code_digest = "edited"
    second = await rig.ended(await rig.create(spec(max_trials=1)))
    for search, digest in ((first, "as it was"), (second, "edited")):
        assert (await rig.runs.get(search.trials[0].run_id)).planned_digest == digest


@pytest.mark.slow
async def test_at_most_so_many_trials_run_at_a_time(rig: SearchRig) -> None:
    await rig.ended(await rig.create(spec(parallel=3, fixed={"steps": 50})))
    assert rig.runs.num_live_at_most == 3


@pytest.mark.slow
async def test_the_largest_wins_when_it_is_to_be_maximized(rig: SearchRig) -> None:
    search = await rig.ended(
        await rig.create(spec(objective=Objective("loss", Direction.MAXIMIZE)))
    )
    assert search.best is not None
    assert search.best.value == max(t.value for t in search.trials if t.value is not None)


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        (Objective("loss", Direction.MAXIMIZE, Reduction.BEST), loss({"a": 1, "b": 0.5}, 1)),
        (
            Objective("loss", Direction.MINIMIZE, Reduction.MEAN, 2),
            sum(loss({"a": 1, "b": 0.5}, s) for s in (8, 9)) / 2,
        ),
    ],
)
async def test_a_history_comes_down_to_what_was_asked_for(
    rig: SearchRig, objective: Objective, value: float
) -> None:
    search = await rig.ended(await rig.create(spec(objective=objective, max_trials=1)))
    assert search.trials[0].value == pytest.approx(value)


@pytest.mark.slow
async def test_configs_that_fail_are_told_as_failed_and_say_why(rig: SearchRig) -> None:
    search = await rig.ended(await rig.create(spec(space=WRONG, max_trials=8)))
    failed = TrialState.FAILED
    assert states(search) == [TrialState.COMPLETED, failed, failed, failed] * 2
    assert [trial.reason for trial in search.trials[:4]] == [
        "",
        "ValueError: the toy raises",
        "its loss was nan",
        "it did not report the metric 'loss'",
    ]
    assert search.state is SearchState.COMPLETED


@pytest.mark.slow
async def test_a_search_whose_every_trial_fails_ends_with_a_sentence(rig: SearchRig) -> None:
    wanted = spec(fixed={"wrong": "raise"}, space=PLANE, sampler=Sampler.TPE, max_trials=50)
    search = await rig.ended(await rig.create(wanted))
    assert search.state is SearchState.FAILED
    assert search.reason == (
        "the first 20 trials all failed, the last of them: ValueError: the toy raises"
    )
    assert len(search.trials) == 21
    few = await rig.ended(await rig.create(spec(fixed={"wrong": "nan"})))
    assert few.reason == "none of the 6 trials gave a value; the last of them: its loss was nan"
    one = await rig.ended(await rig.create(spec(fixed={"wrong": "nan"}, max_trials=1)))
    assert one.reason == "the only trial gave no value: its loss was nan"


async def test_what_the_experiment_refuses_is_no_run_and_told_as_infeasible(rig: SearchRig) -> None:
    rig.refuses = lambda overrides: overrides["a"] == 2
    search = await rig.ended(await rig.create(spec()))
    assert [t.state is TrialState.INFEASIBLE for t in search.trials] == [0, 0, 1, 1, 0, 0]
    assert {t.reason for t in search.trials[2:4]} == {"the toy refuses"}
    assert sum((await rig.store.counts()).values()) == 4


async def test_a_search_whose_every_proposal_is_refused_ends_with_a_sentence(
    rig: SearchRig,
) -> None:
    rig.refuses = lambda _: True
    wanted = spec(space=PLANE, sampler=Sampler.RANDOM, max_trials=1000)
    search = await rig.ended(await rig.create(wanted))
    assert search.state is SearchState.FAILED
    assert search.reason == "the first 20 trials all failed, the last of them: the toy refuses"


async def test_a_run_that_a_person_stops_is_left_out(rig: SearchRig) -> None:
    search_id = await rig.create(spec(fixed={"steps": 10_000}, max_trials=2))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: sum(run.state.has_process for run in rig.runs.live()) == 2)
    for trial in list(search.trials):
        await rig.runs.stop(trial.run_id, checkpoint=True)
    search = await rig.ended(search_id)
    assert states(search) == [TrialState.LEFT_OUT] * 2
    assert search.state is SearchState.FAILED


async def test_a_run_that_had_come_to_its_end_when_a_person_stopped_it_counts(
    rig: SearchRig,
) -> None:
    search_id = await rig.create(spec(fixed={"steps": 10_000}, max_trials=1))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(rig.training(3)))
    run_id = search.trials[0].run_id
    rig.runs.endings[run_id] = RunState.COMPLETED, "stopped"  # asked to stop, and done before
    search = await rig.ended(search_id)
    assert (await rig.runs.get(run_id)).is_stop_requested
    assert states(search) == [TrialState.COMPLETED]
    assert search.best is search.trials[0]


async def test_nothing_is_kept_of_who_has_watched(rig: SearchRig) -> None:
    search_id = await rig.create(spec(max_trials=1))
    for _ in range(2):  # live, and when it has ended
        await rig.ended(search_id)
    gc.collect()
    assert not rig.searches._watchers
    assert not rig.searches._locks


async def test_it_ends_when_its_steps_are_used_up(rig: SearchRig) -> None:
    search = await rig.ended(await rig.create(spec(max_steps=18, parallel=1)))
    assert len(search.trials) == 2
    assert search.reason == "its 18 steps are used up"
    assert search.state is SearchState.COMPLETED


async def test_it_ends_when_its_seconds_are_over(rig: SearchRig) -> None:
    wanted = spec(space=PLANE, sampler=Sampler.RANDOM, max_trials=100_000, max_seconds=0.3)
    search = await rig.ended(await rig.create(wanted))
    assert search.reason == "its 0.3 seconds are over"
    assert 0 < len(search.trials) < 100_000


@pytest.mark.slow
async def test_a_paused_search_proposes_nothing_and_goes_on_where_it_was(rig: SearchRig) -> None:
    search_id = await rig.create(spec(fixed={"steps": 60}))
    await rig.searches.pause(search_id)
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: not search.running)
    num_trials = len(search.trials)
    assert num_trials < 6
    await rig.searches.resume(search_id)
    search = await rig.ended(search_id)
    assert (len(search.trials), search.state) == (6, SearchState.COMPLETED)
    with pytest.raises(InvalidState, match="has ended"):
        await rig.searches.pause(search_id)


async def test_a_search_whose_end_is_being_written_has_ended_for_who_asks_to_stop_it(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ending, go = asyncio.Event(), asyncio.Event()
    write = rig.log_store.append

    async def append(record: SearchRecord, payloads: Sequence[bytes]) -> None:
        if record.state.is_terminal:
            is_ending.set()
            await go.wait()
        await write(record, payloads)

    monkeypatch.setattr(rig.log_store, "append", append)
    search_id = await rig.create(spec(max_trials=1))
    await is_ending.wait()
    stopping = asyncio.create_task(rig.searches.stop(search_id, with_trials=True))
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(InvalidState, match="has ended: it is completed"):
        await stopping


async def test_a_grid_is_not_extended_beyond_its_points(rig: SearchRig) -> None:
    def to(max_trials: int) -> Callable[[Budget], Budget]:
        return lambda budget: dataclasses.replace(budget, max_trials=max_trials)

    search_id = await rig.create(spec(max_trials=4, parallel=1, fixed={"steps": 60}))
    await rig.searches.enqueue(search_id, [{"a": 3, "b": 1.5}])
    for _ in range(2):  # while it runs, and when it has ended
        with pytest.raises(InvalidRequest) as refused:
            await rig.searches.change_budget(search_id, to(8))
        assert str(refused.value.violations[0]) == (
            "the grid has 6 points and 1 enqueued: max_trials can be at most 7, got 8"
        )
        assert len((await rig.ended(search_id)).trials) == 4
    assert [dict(t.params) for t in (await rig.ended(search_id)).trials].count(
        {"a": 3, "b": 1.5}
    ) == 1
    await rig.searches.change_budget(search_id, to(7))
    assert len((await rig.ended(search_id)).trials) == 7
    with pytest.raises(InvalidRequest, match="can be at most 7, got 100"):
        await rig.searches.change_budget(search_id, to(100))
    other = await rig.create(spec(max_trials=1))
    await rig.ended(other)
    with pytest.raises(InvalidRequest, match="the grid has 6 points: max_trials can be at most 6"):
        await rig.searches.change_budget(other, to(7))
    endless = await rig.create(spec(max_trials=1, space=PLANE, sampler=Sampler.RANDOM))
    await rig.searches.change_budget(endless, to(8))
    assert len((await rig.ended(endless)).trials) == 8


async def test_a_grid_all_of_whose_points_are_made_takes_no_more_and_is_not_to_be_extended(
    rig: SearchRig,
) -> None:
    search_id = await rig.create(
        spec(space={"a": Choice((1,))}, max_trials=1, fixed={"steps": 500})
    )
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials))
    with pytest.raises(InvalidState, match=r"any more: all points of its grid are made \(1\)$"):
        await rig.searches.enqueue(search_id, [{"a": 1}])


@pytest.mark.parametrize("others", ["extend", "pause"])
async def test_who_asks_while_a_search_is_extended_that_has_ended_is_served_next(
    rig: SearchRig, others: str
) -> None:
    search_id = await rig.create(spec(max_trials=1, fixed={"steps": 30}))
    await rig.ended(search_id)
    extended = rig.searches.change_budget(
        search_id, lambda budget: dataclasses.replace(budget, max_trials=4)
    )
    if others == "extend":
        other = rig.searches.change_budget(
            search_id, lambda budget: dataclasses.replace(budget, parallel=3)
        )
    else:
        other = rig.searches.pause(search_id)
    await asyncio.gather(extended, other)
    search = await rig.searches.folded(search_id)
    if others == "pause":
        assert search.state is SearchState.PAUSED
        await rig.searches.resume(search_id)
    search = await rig.ended(search_id)
    assert (states(search), search.state) == ([TrialState.COMPLETED] * 4, SearchState.COMPLETED)
    assert search.spec.budget.parallel == (3 if others == "extend" else 2)
    assert sum((await rig.store.counts()).values()) == 4


async def test_who_waits_for_a_search_that_ends_is_served_also_when_it_goes_on(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_ending, go = asyncio.Event(), asyncio.Event()
    write = rig.log_store.append

    async def append(record: SearchRecord, payloads: Sequence[bytes]) -> None:
        if record.state.is_terminal and not is_ending.is_set():
            is_ending.set()
            await go.wait()
        await write(record, payloads)

    monkeypatch.setattr(rig.log_store, "append", append)
    search_id = await rig.create(spec(max_trials=1, fixed={"steps": 30}))
    await is_ending.wait()
    changes = [
        asyncio.create_task(work)
        for work in (
            rig.searches.change_budget(
                search_id, lambda budget: dataclasses.replace(budget, max_trials=6)
            ),
            rig.searches.enqueue(search_id, [{"a": 3, "b": 1.5}]),
            rig.searches.enqueue(search_id, [{"a": 3, "b": 0.5}]),
        )
    ]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*changes)
    search = await rig.ended(search_id)
    assert states(search) == [TrialState.COMPLETED] * 6
    asked = [entry for entry in await rig.entries(search_id) if isinstance(entry, Asked)]
    enqueued = [dict(entry.params) for entry in asked if entry.is_enqueued]
    assert enqueued == [{"a": 3, "b": 1.5}, {"a": 3, "b": 0.5}]
    assert sum(isinstance(entry, Ended) for entry in await rig.entries(search_id)) == 2


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_search_whose_caller_goes_away_goes_on_all_the_same(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    wanted = spec(max_trials=1)
    search_id = "" if is_new else await rig.create(wanted, key="k")
    if search_id:
        await rig.ended(search_id)
    name = "create" if is_new else "append"
    write, is_writing, go = getattr(rig.log_store, name), asyncio.Event(), asyncio.Event()

    async def write_late(*arguments: Any) -> Any:
        await go.wait()
        return await write(*arguments)

    def write_slowly(*arguments: Any) -> Any:
        is_writing.set()
        return run_to_completion(write_late(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(rig.log_store, name, write_slowly, raising=False)
        asking: asyncio.Task[Any] = asyncio.create_task(
            rig.create(wanted, key="k")
            if is_new
            else rig.searches.change_budget(
                search_id, lambda budget: dataclasses.replace(budget, max_trials=2)
            )
        )
        await is_writing.wait()
    asking.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    search_id = await rig.create(wanted, key="k")
    search = await rig.ended(search_id)
    assert states(search) == [TrialState.COMPLETED] * (1 if is_new else 2)


@pytest.mark.parametrize("is_deleted_first", [False, True])
async def test_a_search_is_extended_or_deleted_and_never_half_of_both(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch, is_deleted_first: bool
) -> None:
    search_id = await rig.create(spec(max_trials=1, fixed={"steps": 30}))
    await rig.ended(search_id)
    is_writing, go = asyncio.Event(), asyncio.Event()
    name = "delete" if is_deleted_first else "append"
    write = getattr(rig.log_store, name)

    async def write_slowly(*arguments: Any) -> None:
        is_writing.set()
        await go.wait()
        await write(*arguments)

    def extend() -> Any:
        return rig.searches.change_budget(
            search_id, lambda budget: dataclasses.replace(budget, max_trials=2)
        )

    def delete() -> Any:
        return rig.searches.delete(search_id)

    order = (delete, extend) if is_deleted_first else (extend, delete)
    with monkeypatch.context() as patched:
        patched.setattr(rig.log_store, name, write_slowly, raising=False)
        first = asyncio.create_task(order[0]())
        await is_writing.wait()
    second = asyncio.create_task(order[1]())
    for _ in range(100):
        await asyncio.sleep(0.001)
    go.set()
    await first
    with pytest.raises(NotFound if is_deleted_first else InvalidState):
        await second
    if not is_deleted_first:
        assert states(await rig.ended(search_id)) == [TrialState.COMPLETED] * 2


async def test_a_search_that_has_ended_goes_on_with_more_trials(rig: SearchRig) -> None:
    search_id = await rig.create(spec(max_trials=2))
    await rig.ended(search_id)
    await rig.searches.change_budget(
        search_id, lambda budget: dataclasses.replace(budget, max_trials=4)
    )
    search = await rig.ended(search_id)
    assert states(search) == [TrialState.COMPLETED] * 4
    assert [t.params["a"] for t in search.trials] == [1, 1, 2, 2]


async def test_points_that_were_enqueued_come_first(rig: SearchRig) -> None:
    search_id = await rig.create(spec(max_trials=4, fixed={"steps": 30}, parallel=1))
    await rig.searches.enqueue(search_id, [{"a": 3, "b": 1.5}])
    search = await rig.ended(search_id)
    asked = [entry for entry in await rig.entries(search_id) if isinstance(entry, Asked)]
    (place,) = (e.number for e in asked if e.is_enqueued)
    assert dict(search.trials[place].params) == {"a": 3, "b": 1.5}
    # the grid goes on behind it
    drawn = [dict(t.params) for t in search.trials if t.number != place]
    assert drawn == [{"a": 1, "b": 0.5}, {"a": 1, "b": 1.5}, {"a": 2, "b": 0.5}]


@pytest.mark.slow
async def test_what_a_point_leaves_open_is_proposed(rig: SearchRig) -> None:
    search_id = await rig.create(
        spec(space=PLANE, sampler=Sampler.RANDOM, fixed={"steps": 30}, parallel=1)
    )
    await rig.searches.enqueue(search_id, [{"x": 0.7}])
    search = await rig.ended(search_id)
    assert [set(trial.params) for trial in search.trials] == [{"x", "rate"}] * 6
    assert [t.params["x"] for t in search.trials].count(0.7) == 1


async def test_points_that_would_never_be_tried_are_refused(rig: SearchRig) -> None:
    search_id = await rig.create(spec(max_trials=1, fixed={"steps": 10_000}))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials and search.trials[0].run_id))
    with pytest.raises(InvalidState, match=r"all of its trials are made \(1\); extend it first"):
        await rig.searches.enqueue(search_id, [{"a": 3, "b": 1.5}])
    await rig.searches.stop(search_id, with_trials=True)
    with pytest.raises(InvalidState, match=r"stopping|ended"):
        await rig.searches.enqueue(search_id, [{"a": 3, "b": 1.5}])


async def test_a_stop_waits_for_running_trials_or_stops_them(rig: SearchRig) -> None:
    outcomes: dict[bool, list[Any]] = {}
    for with_trials in (False, True):
        search_id = await rig.create(spec(fixed={"steps": 60 if not with_trials else 10_000}))
        search = await rig.searches.folded(search_id)
        await rig.until(lambda search=search: any(t.run_id for t in search.trials))  # type: ignore[misc]
        await rig.searches.stop(search_id, with_trials=with_trials)
        search = await rig.ended(search_id)
        assert (search.state, search.reason) == (SearchState.STOPPED, "stopped on request")
        outcomes[with_trials] = list(set(states(search)))
    assert outcomes == {False: [TrialState.COMPLETED], True: [TrialState.LEFT_OUT]}


async def test_a_full_disk_pauses_the_search_and_no_trial_is_lost(rig: SearchRig) -> None:
    search_id = await rig.create(spec(max_trials=1, fixed={"steps": 10_000}))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials and search.trials[0].run_id))
    run_id = search.trials[0].run_id
    rig.runs.endings[run_id] = RunState.FAILED, "OSError: No space left on device"
    await rig.until(lambda: search.state is SearchState.PAUSED)
    assert search.reason.startswith(f"run {run_id} found no room on the disk")
    assert states(search) == [TrialState.RUNNING]
    await rig.searches.resume(search_id)
    await rig.until(lambda: any(run.id == run_id for run in rig.runs.live()))
    await rig.searches.stop(search_id, with_trials=True)
    await rig.ended(search_id)
    assert sum(isinstance(e, Paused) for e in await rig.entries(search_id)) == 1


async def test_an_experiment_that_is_gone_ends_the_search(rig: SearchRig) -> None:
    search_id = await rig.create(spec(experiment="gone"))
    search = await rig.ended(search_id)
    assert search.state is SearchState.FAILED
    assert search.reason.startswith("the experiment is gone: there is no experiment 'gone'")


async def test_an_error_of_the_server_ends_the_search_with_a_sentence(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab_server.search import sampling

    def fails(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(sampling, "propose", fails)
    search = await rig.ended(await rig.create(spec()))
    assert search.state is SearchState.FAILED
    assert "ZeroDivisionError('oops')" in search.reason


async def test_an_end_that_cannot_be_written_for_a_mistake_is_tried_again_after_a_pause(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.search.sampling.propose", lambda *_: 1 / 0)
    pauses, num_pauses_before, fail = list[float](), list[int](), Controller._fail

    async def fail_twice(controller: Controller, reason: str) -> None:
        num_pauses_before.append(len(pauses))
        if len(num_pauses_before) <= 2:
            raise ZeroDivisionError("oops again")
        await fail(controller, reason)

    class Pausing:
        """The module asyncio, with pauses that only note how long they would be."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(0)

    monkeypatch.setattr("lab_server.search.controller.asyncio", Pausing())
    monkeypatch.setattr(Controller, "_fail", fail_twice)
    search = await rig.ended(await rig.create(spec()))
    assert (search.state, num_pauses_before) == (SearchState.FAILED, [0, 1, 2])


@pytest.mark.parametrize("breaks", ["module", "check", "name"])
async def test_a_broken_save_costs_no_trial_and_is_shown_until_it_is_mended(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    monkeypatch.setattr("lab_server.search.controller._RETRY_S", 0.001)
    error = "experiment 'toy' cannot be loaded: SyntaxError: oops"
    broken = ExperimentEntry("toys" if breaks == "name" else "toy", None, error=error)

    async def describe(_: object = None) -> tuple[ExperimentEntry, ...]:
        return (broken,)

    async def check(*_: object) -> tuple[Violation, ...]:
        raise CheckCrashed([Violation("", "the experiment's own checks crashed")])

    search_id = await rig.create(spec(parallel=1))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: len(search.trials) == 2)
    with monkeypatch.context() as patched:
        what, how = ("check", check) if breaks == "check" else ("describe", describe)
        patched.setattr(rig.executor, what, how)
        await rig.until(lambda: bool(rig.searches.obstacle(search_id)))
        wanted = "checks crashed" if breaks == "check" else error
        assert wanted in rig.searches.obstacle(search_id)
    search = await rig.ended(search_id)
    assert states(search) == [TrialState.COMPLETED] * 6
    assert search.state is SearchState.COMPLETED


async def test_a_trial_that_has_to_wait_holds_up_no_other(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab_server.search.controller._RETRY_S", 0.001)
    start, is_full = rig.runs.start, True

    async def start_some(run_id: str, **arguments: Any) -> Run:
        run = await rig.runs.get(run_id)
        if is_full and run.request.trial is not None and run.request.trial.number == 0:
            raise QueueFull(1)
        return await start(run_id, **arguments)

    monkeypatch.setattr(rig.runs, "start", start_some)
    search_id = await rig.create(spec(max_trials=2, parallel=2))
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: states(search) == [TrialState.RUNNING, TrialState.COMPLETED])
    await rig.until(lambda: "the queue is full" in rig.searches.obstacle(search_id))
    is_full = False
    assert states(await rig.ended(search_id)) == [TrialState.COMPLETED] * 2


async def test_a_run_that_can_never_start_fails_its_trial(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(run_id: str, **_: Any) -> Run:
        raise InvalidState(f"run {run_id} is where it should be already")

    monkeypatch.setattr(rig.runs, "start", start)
    search = await rig.ended(await rig.create(spec(max_trials=1)))
    assert states(search) == [TrialState.FAILED]
    assert "could not be started" in search.trials[0].reason
    assert "already" in search.reason


class BrokenDisk:
    """A store of searches that fails its writes from one on, and every read, until it is mended."""

    def __init__(self, store: Any, fails: Callable[[SearchRecord], bool]) -> None:
        self._store, self._fails = store, fails
        self.is_broken, self.was_broken = False, asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if self.is_broken:
            raise StoreError("the disk is gone")
        return getattr(self._store, name)

    async def append(self, record: SearchRecord, payloads: Sequence[bytes]) -> None:
        if not self.was_broken.is_set() and self._fails(record):
            self.is_broken = True
            self.was_broken.set()
        if self.is_broken:
            raise StoreError("the disk is gone")
        await self._store.append(record, payloads)


@pytest.mark.parametrize("at", ["asked", "ended", "failed"])
async def test_what_could_not_be_written_did_not_happen_and_is_done_when_the_store_is_back(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr("lab_server.search.controller._RETRY_S", 0.001)
    if at == "failed":
        monkeypatch.setattr("lab_server.search.sampling.propose", lambda *_: 1 / 0)
    wanted, ends = spec(max_trials=2, parallel=1), at in ("ended", "failed")
    disk = BrokenDisk(
        rig.log_store, lambda record: record.state.is_terminal if ends else record.last_seq == 2
    )
    rig.searches._store = disk
    search_id = await rig.create(wanted)
    await disk.was_broken.wait()
    with pytest.raises(StoreError, match="the disk is gone"):
        await rig.searches.pause(search_id)
    disk.is_broken = False
    search = await rig.ended(search_id)
    assert search.state is (SearchState.FAILED if at == "failed" else SearchState.COMPLETED)
    assert [entry for entry in await rig.entries(search_id) if isinstance(entry, Ended)] == [
        Ended(search.state, search.reason)
    ]
    assert len(search.trials) == (0 if at == "failed" else 2)


@pytest.mark.slow
async def test_every_sampler_stays_within_the_space(rig: SearchRig) -> None:
    space = {**GRID, **PLANE, "steps": Choice((2, 3)), "x": FloatRange(-1.0, 1.0, 0.25)}
    for sampler in (Sampler.RANDOM, Sampler.QUASI_RANDOM, Sampler.TPE):
        search = await rig.ended(
            await rig.create(spec(space=space, sampler=sampler, max_trials=24, parallel=4))
        )
        for trial in search.trials:
            params: dict[str, Any] = dict(trial.params)
            assert params["a"] in (1, 2, 3)
            assert isinstance(params["a"], int)
            assert -1 <= params["x"] <= 1
            assert params["x"] * 4 == round(params["x"] * 4)
            assert 1e-4 <= params["rate"] <= 1
        assert len({str(dict(t.params)) for t in search.trials}) > 12


@pytest.mark.slow
async def test_tpe_goes_where_good_values_were(rig: SearchRig) -> None:
    above_best = {}
    for sampler in (Sampler.RANDOM, Sampler.TPE):
        search = await rig.ended(
            await rig.create(spec(space=PLANE, sampler=sampler, max_trials=40))
        )
        best = loss({"x": 0.7, "rate": 1e-4}, 9)
        late = [trial.value - best for trial in search.trials[20:] if trial.value is not None]
        above_best[sampler] = sum(late) / len(late)
    assert above_best[Sampler.TPE] < above_best[Sampler.RANDOM] / 2


def test_a_float_in_steps_stays_below_its_end() -> None:
    from lab_server.search.sampling import _at

    assert _at(FloatRange(0.0, 0.3, 0.1), 0.999) == 0.3
