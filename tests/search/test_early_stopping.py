"""Halving with promotion and median stopping: who goes on, who ends, and what it saves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lab_core.errors import ConfigError, Violation
from lab_server.errors import QueueFull
from lab_server.model.domain import Choice
from lab_server.model.run import Run, RunState
from lab_server.model.search import (
    Direction,
    Halving,
    MedianStopping,
    Objective,
    Sampler,
    SearchState,
    TrialState,
)
from lab_server.model.search_log import Promoted, Pruned, Told
from lab_server.search.fold import Search
from tests.search.rig import SearchRig, loss, spec

# the loss grows with `a` from 2 on
NINE = {"a": Choice(tuple(range(2, 11)))}


def by_rung(search: Search) -> list[int]:
    """Return how many trials have come to each rung."""
    last = max(rung for trial in search.trials for rung in trial.values)
    return [sum(rung in t.values for t in search.trials) for rung in range(last + 1)]


async def halved(rig: SearchRig, **changes: Any) -> Search:
    defaults: dict[str, Any] = {
        "space": NINE,
        "max_trials": 9,
        "parallel": 3,
        "early_stopping": Halving(2, 3),
        "fixed": {"steps": 30},
    }
    return await rig.ended(await rig.create(spec(**(defaults | changes))))


async def test_one_in_eta_goes_on_and_the_last_one_to_its_end(rig: SearchRig) -> None:
    search = await halved(rig)
    assert by_rung(search) == [9, 3, 1]
    assert [trial.number for trial in search.trials if 1 in trial.values] == [0, 1, 2]
    assert search.best is search.trials[0]
    assert (search.best.state, search.best.step) == (TrialState.COMPLETED, 30)
    assert search.best.value == loss({"a": 2}, 30)
    assert search.num_steps == 6 * 2 + 2 * 6 + 30
    shown = [search.trial_view(trial).state for trial in search.trials]
    assert shown == [TrialState.COMPLETED] + [TrialState.PRUNED] * 8


@pytest.mark.slow
async def test_values_of_a_rung_are_those_at_its_step(rig: SearchRig) -> None:
    search = await halved(rig)
    for trial in search.trials:
        for rung, value in trial.values.items():
            step = 30 if rung == 2 else 2 * 3**rung
            assert value == loss(trial.params, step)


async def test_a_trial_goes_on_with_the_code_that_there_is_then(rig: SearchRig) -> None:
    search_id = await rig.create(
        spec(space=NINE, max_trials=9, early_stopping=Halving(2, 3), fixed={"steps": 30})
    )
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials))
    rig.executor.code_digest = "edited"
    search = await rig.ended(search_id)
    assert search.best is not None
    assert (await rig.runs.get(search.best.run_id)).planned_digest == "edited"


@pytest.mark.slow
async def test_in_lockstep_a_rung_is_compared_when_all_of_it_is_there(rig: SearchRig) -> None:
    search = await halved(rig)
    entries = await rig.entries(search.id)
    first = next(i for i, entry in enumerate(entries) if isinstance(entry, Promoted))
    told = [entry.number for entry in entries[:first] if isinstance(entry, Told)]
    assert sorted(told) == list(range(9))


@pytest.mark.slow
async def test_without_lockstep_a_trial_goes_on_as_soon_as_it_is_among_the_best(
    rig: SearchRig,
) -> None:
    search = await halved(rig, is_lockstep=False, parallel=1)
    entries = await rig.entries(search.id)
    kinds = [type(entry).__name__ for entry in entries]
    first = kinds.index("Promoted")
    assert kinds[:first].count("Asked") == 3  # one in three, so the third is enough
    assert search.best is search.trials[0]
    assert search.best.state is TrialState.COMPLETED


@pytest.mark.slow
async def test_trials_shorter_than_a_rung_complete_and_compete(rig: SearchRig) -> None:
    search = await halved(rig, early_stopping=Halving(4, 3), fixed={"steps": 10})
    assert [t.state for t in search.trials[:3]] == [TrialState.COMPLETED] * 3
    assert {t.step for t in search.trials[:3]} == {10}
    assert search.best is search.trials[0]


async def test_a_trial_that_fails_at_a_higher_rung_does_not_win(rig: SearchRig) -> None:
    wrong = {"a": Choice((2, 3)), "wrong": Choice(("nan", ""))}
    search = await halved(rig, space=wrong, max_trials=4)
    assert search.best is not None
    assert dict(search.best.params) == {"a": 2, "wrong": ""}
    assert [t.state for t in search.trials].count(TrialState.FAILED) == 2


async def test_a_trial_that_is_retried_after_a_rung_ends_as_if_nothing_had_been(
    rig: SearchRig,
) -> None:
    wanted = spec(space=NINE, max_trials=9, early_stopping=Halving(4, 3), fixed={"steps": 40})
    expected = await rig.ended(await rig.create(wanted))
    search_id = await rig.create(wanted)
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials) and search.trials[0].state is TrialState.PAUSED)
    run_id = search.trials[0].run_id
    rig.runs.deaths[run_id] = 8  # on its way to the second rung, at step 12
    search = await rig.ended(search_id)
    assert not rig.runs.deaths
    assert (await rig.runs.get(run_id)).attempt == 4  # three legs, one of them twice
    for found, other in zip(search.trials, expected.trials, strict=True):
        assert (found.state, found.values, found.step) == (other.state, other.values, other.step)
    assert search.num_steps == expected.num_steps


async def test_a_metric_that_comes_after_the_rung_is_told_as_such(rig: SearchRig) -> None:
    late = {"a": Choice((2, 3)), "wrong": Choice(("late",))}
    search = await halved(rig, space=late, max_trials=2)
    assert search.reason == (
        "none of the 2 trials gave a value; the last of them: it did not report the metric 'loss'"
        " up to step 2, where trials are compared; if it comes later, use larger min_steps"
    )
    search = await halved(rig, space=late, max_trials=2, early_stopping=None)
    assert {trial.state for trial in search.trials} == {TrialState.COMPLETED}


async def test_of_a_run_that_a_person_deletes_the_place_goes_to_the_next_best(
    rig: SearchRig,
) -> None:
    search_id = await rig.create(
        spec(space=NINE, max_trials=4, early_stopping=Halving(10, 3), fixed={"steps": 40})
    )
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials) and search.trials[0].state is TrialState.PAUSED)
    await rig.runs.delete(search.trials[0].run_id)  # it would have won
    search = await rig.ended(search_id)
    left_out = search.trials[0]
    assert (left_out.state, left_out.reason) == (TrialState.LEFT_OUT, "its run was deleted")
    assert search.best is search.trials[1]
    assert search.best.step == 40


async def on_its_last_leg(rig: SearchRig) -> Search:
    """Return a search of three trials, of which the best trains to its end."""
    search_id = await rig.create(
        spec(space=NINE, max_trials=3, early_stopping=Halving(2, 3), fixed={"steps": 3000})
    )
    search = await rig.searches.folded(search_id)
    await rig.until(lambda: bool(search.trials) and search.trials[0].run_id in rig.training(2))
    return search


async def test_of_a_winner_that_fails_the_place_goes_to_the_next_best(rig: SearchRig) -> None:
    search = await on_its_last_leg(rig)
    rig.runs.endings[search.trials[0].run_id] = RunState.FAILED, "it diverged"
    await rig.until(lambda: search.trials[0].state is TrialState.FAILED)
    assert search.best is search.trials[1]
    search = await rig.ended(search.id)
    assert search.state is SearchState.COMPLETED
    assert search.best is search.trials[1]
    assert (search.best.state, search.best.step) == (TrialState.COMPLETED, 3000)
    assert search.trials[2].state is TrialState.PAUSED


async def test_a_search_that_is_stopped_has_the_best_of_those_that_were_compared(
    rig: SearchRig,
) -> None:
    search = await on_its_last_leg(rig)
    await rig.searches.stop(search.id, with_trials=True)
    search = await rig.ended(search.id)
    assert search.trials[0].state is TrialState.LEFT_OUT
    assert search.best is search.trials[1]
    assert search.best.value == loss({"a": 3}, 2)


def let_none_go_on(rig: SearchRig, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Start the first leg of each trial, and refuse all others."""
    start = rig.runs.start

    async def start_first_legs(run_id: str, *, resume: bool = False, **arguments: Any) -> Run:
        if resume:
            raise error
        return await start(run_id, resume=resume, **arguments)

    monkeypatch.setattr(rig.runs, "start", start_first_legs)


async def test_a_trial_that_is_stopped_before_it_goes_on_comes_to_no_other_rung(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_none_go_on(rig, monkeypatch, QueueFull(1))
    monkeypatch.setattr("lab_server.search.controller._RETRY_S", 0.001)
    search_id = await rig.create(
        spec(space=NINE, max_trials=9, early_stopping=Halving(2, 3), fixed={"steps": 30})
    )
    await rig.until(lambda: bool(rig.searches.obstacle(search_id)))
    await rig.searches.stop(search_id, with_trials=True)
    search = await rig.ended(search_id)
    left_out = [trial for trial in search.trials if trial.state is TrialState.LEFT_OUT]
    assert [(trial.values, trial.step) for trial in left_out] == [
        ({0: loss(trial.params, 2), 1: None}, 2) for trial in left_out
    ]
    assert {trial.reason for trial in left_out} == {"the search was stopped before it went on"}
    assert {trial.rung for trial in search.trials if trial not in left_out} == {0}


async def test_a_trial_that_cannot_go_on_keeps_the_steps_that_it_trained(
    rig: SearchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Violation("options.device", "there is no such device any more")
    let_none_go_on(rig, monkeypatch, ConfigError([gone]))
    search = await halved(rig, max_trials=3)
    assert {trial.step for trial in search.trials if trial.state is TrialState.FAILED} == {2}


@pytest.mark.slow
async def test_a_search_that_is_extended_promotes_on(rig: SearchRig) -> None:
    search = await halved(rig, max_trials=3)
    assert by_rung(search) == [3, 1]
    await rig.searches.change_budget(
        search.id, lambda budget: dataclasses.replace(budget, max_trials=9)
    )
    search = await rig.ended(search.id)
    assert by_rung(search)[0] == 9
    assert by_rung(search)[1] == 3


async def judged(rig: SearchRig, **changes: Any) -> Search:
    defaults: dict[str, Any] = {
        "space": {"a": Choice((2, 3, 4, 9, 5, 8))},
        "max_trials": 6,
        "parallel": 1,
        "early_stopping": MedianStopping(4, 0, 3),
        "fixed": {"steps": 20},
    }
    return await rig.ended(await rig.create(spec(**(defaults | changes))))


@pytest.mark.slow
async def test_a_trial_worse_than_the_median_ends_at_the_first_step_that_tells(
    rig: SearchRig,
) -> None:
    search = await judged(rig)
    assert [t.state for t in search.trials] == [TrialState.COMPLETED] * 3 + [TrialState.PRUNED] * 3
    assert {t.step for t in search.trials[3:]} == {4}
    assert search.trials[3].value == loss({"a": 9}, 4)
    assert search.trials[3].reason.startswith("its loss of 49.665 at step 4 was worse than")
    assert search.best is search.trials[0]


@pytest.mark.slow
async def test_no_trial_is_judged_before_the_warm_up_or_by_too_few(rig: SearchRig) -> None:
    search = await judged(rig, early_stopping=MedianStopping(4, 12, 3))
    assert {t.step for t in search.trials[3:]} == {12}
    search = await judged(rig, early_stopping=MedianStopping(4, 0, 6))
    assert {t.state for t in search.trials} == {TrialState.COMPLETED}


@pytest.mark.slow
async def test_the_largest_is_kept_when_it_is_to_be_maximized(rig: SearchRig) -> None:
    search = await judged(rig, objective=Objective("loss", Direction.MAXIMIZE))
    assert search.trials[3].state is TrialState.COMPLETED
    assert search.best is search.trials[3]


@pytest.mark.slow
async def test_without_lockstep_what_has_ended_counts(rig: SearchRig) -> None:
    search = await judged(rig, is_lockstep=False, parallel=2, sampler=Sampler.GRID)
    pruned = [e for e in await rig.entries(search.id) if isinstance(e, Pruned)]
    assert {entry.number for entry in pruned} <= {3, 4, 5}
    assert search.best is search.trials[0]


OUT_OF_TIME = "stopped: it reached its max_runtime of 2 s"


async def out_of_time(rig: SearchRig, after_step: int, *numbers: int, **changes: Any) -> Search:
    """Return a search that has ended, some of whose runs may train no longer at a step."""
    say = rig.runs.say

    async def say_until(run: Run, *news: Any) -> Run:
        run = await say(run, *news)
        trial = run.request.trial
        if trial is not None and trial.number in numbers and run.step == after_step:
            rig.runs.endings[run.id] = RunState.STOPPED, OUT_OF_TIME
        return run

    rig.runs.say = say_until  # type: ignore[method-assign]
    return await rig.ended(await rig.create(spec(**changes)))


async def test_a_trial_that_runs_out_of_time_counts_as_one_that_ended_early(rig: SearchRig) -> None:
    search = await out_of_time(rig, 5, 0, 3)
    states = [trial.state for trial in search.trials]
    assert states == [
        TrialState.PRUNED if number in (0, 3) else TrialState.COMPLETED for number in range(6)
    ]
    trial = search.trials[3]
    assert (trial.value, trial.step, trial.reason) == (loss(trial.params, 5), 5, OUT_OF_TIME)
    assert search.best is search.trials[2]


async def test_a_search_whose_every_trial_runs_out_of_time_has_the_best_of_them(
    rig: SearchRig,
) -> None:
    search = await out_of_time(rig, 5, *range(6))
    assert {trial.state for trial in search.trials} == {TrialState.PRUNED}
    assert search.best is not None
    assert (dict(search.best.params), search.best.value) == (
        {"a": 2, "b": 0.5},
        loss({"a": 2, "b": 0.5}, 5),
    )
    assert (search.state, search.reason) == (SearchState.COMPLETED, "all 6 trials are done")


async def test_a_trial_that_measured_nothing_in_its_time_has_failed(rig: SearchRig) -> None:
    search = await out_of_time(rig, 5, 0, max_trials=1, fixed={"wrong": "missing"})
    (trial,) = search.trials
    assert trial.state is TrialState.FAILED
    assert trial.reason == f"{OUT_OF_TIME}; it did not report the metric 'loss'"


@pytest.mark.parametrize("after_step", [1, 4])
async def test_of_a_trial_that_runs_out_of_time_the_next_best_has_the_place(
    rig: SearchRig, after_step: int
) -> None:
    """At the first rung, at whose step it has no value to compare, or on its way to the next."""
    halving: dict[str, Any] = {
        "space": NINE,
        "max_trials": 9,
        "parallel": 3,
        "early_stopping": Halving(2, 3),
        "fixed": {"steps": 30},
    }
    search = await out_of_time(rig, after_step, 0, **halving)
    assert search.trials[0].state is TrialState.PRUNED
    promoted = [trial.number for trial in search.trials if 1 in trial.values]
    assert promoted == ([1, 2, 3] if after_step == 1 else [0, 1, 2, 3])
    assert search.best is search.trials[1]
    assert search.best.state is TrialState.COMPLETED
