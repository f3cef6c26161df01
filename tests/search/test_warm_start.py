"""What a search takes over from earlier searches and runs, and that it is in its log from then on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lab_server.model.domain import Choice, FloatRange
from lab_server.model.run import RunState
from lab_server.model.search import (
    Direction,
    Halving,
    Objective,
    Reduction,
    Sampler,
    SearchSpec,
)
from lab_server.model.search_log import TakenOver
from lab_server.search.fold import Search
from lab_server.search.warm_start import take_over
from lab_server.search.window import NUM_BEST, NUM_LATEST, best_and_latest
from tests.search.rig import PLANE, SearchRig, loss, spec

COLD = spec(space=PLANE, sampler=Sampler.TPE, max_trials=8)


async def earlier(rig: SearchRig, **changes: Any) -> Search:
    """Return a search that has ended."""
    defaults: dict[str, Any] = {"space": PLANE, "sampler": Sampler.QUASI_RANDOM, "max_trials": 16}
    return await rig.ended(await rig.create(spec(**(defaults | changes))))


async def warm(rig: SearchRig, source: Search, wanted: SearchSpec = COLD) -> str:
    """Create a search that learns from an earlier one, and return its id."""
    wanted = dataclasses.replace(wanted, warm_start=(source.id,))
    taken, _ = await take_over(wanted, [source], rig.store)
    return (await rig.searches.create(wanted, owner="", idempotency=None, taken=taken)).id


@pytest.mark.slow  # both import Optuna
async def test_what_earlier_trials_came_to_is_the_second_entry_and_no_trial(
    rig: SearchRig,
) -> None:
    source = await earlier(rig)
    search = await rig.ended(await warm(rig, source))
    entry = (await rig.entries(search.id))[1]
    assert isinstance(entry, TakenOver)
    assert [(t.run_id, dict(t.params), t.value) for t in entry.trials] == [
        (t.run_id, dict(t.params), t.value) for t in source.trials
    ]
    assert {t.search_id for t in entry.trials} == {source.id}
    view = search.view()
    assert (view.num_taken_over, sum(view.counts.values()), len(search.trials)) == (16, 8, 8)
    assert view.best is not None
    assert view.best.run_id in {trial.run_id for trial in search.trials}


@pytest.mark.slow
async def test_its_first_trials_are_where_earlier_ones_were_good(rig: SearchRig) -> None:
    source = await earlier(rig)
    search = await rig.ended(await warm(rig, source))
    cold = await rig.ended(await rig.create(COLD))
    assert search.trials[0].params != cold.trials[0].params
    middle = sorted(t.value for t in source.trials if t.value is not None)[8]
    values = [trial.value for trial in search.trials if trial.value is not None]
    assert sum(value < middle for value in values) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("halving", [None, Halving(2, 2)])
async def test_killed_at_every_entry_and_without_the_earlier_search_it_ends_the_same(
    tmp_path: Path, halving: Halving | None
) -> None:
    wanted = dataclasses.replace(COLD, early_stopping=halving)
    outcomes = []
    for name, is_killed in (("undisturbed", False), ("killed", True)):
        rig = SearchRig(tmp_path / name, seed=int(is_killed))
        await rig.open()
        source = await earlier(rig)
        search_id = await warm(rig, source, wanted)
        if is_killed:
            await rig.searches.delete(source.id)
        num_kills = 0
        while is_killed:
            await rig.close()
            await rig.open(kill_after=0)
            if not rig.searches.live():
                break
            await rig.until(lambda rig=rig: rig.is_killed.is_set() or not rig.searches.live())  # type: ignore[misc]
            num_kills += rig.is_killed.is_set()
        assert not is_killed or num_kills > 2 * COLD.budget.max_trials
        outcomes.append(await rig.outcome(search_id))
        await rig.close()
    assert outcomes[0] == outcomes[1]


async def test_another_objective_is_read_from_the_runs_logs(rig: SearchRig) -> None:
    source = await earlier(rig, max_trials=3)
    worst = Objective("loss", Direction.MAXIMIZE, Reduction.BEST)
    wanted = dataclasses.replace(COLD, objective=worst, warm_start=(source.id,))
    taken, notes = await take_over(wanted, [source], rig.store)
    assert [one.value for one in taken] == [loss(t.params, 1) for t in source.trials]
    assert not notes


async def test_a_run_is_taken_over_by_its_configs_once_it_is_trained_to_its_end(
    rig: SearchRig,
) -> None:
    source = await earlier(rig, max_trials=2)
    runs = [await rig.runs.get(trial.run_id) for trial in source.trials]
    runs.append(dataclasses.replace(runs[0], id="unfinished", state=RunState.STOPPED))
    taken, notes = await take_over(COLD, [source, *runs], rig.store)
    # a run that is also a trial of the search counts once
    assert [one.run_id for one in taken] == [run.id for run in runs[:2]]
    assert notes == ["took over 0 of 1 trials of run unfinished: 1 not trained to the end"]


async def test_what_is_not_taken_over_and_what_may_not_compare_is_told(rig: SearchRig) -> None:
    source = await earlier(rig, fixed={"steps": 5}, max_trials=8)
    narrow = {**PLANE, "x": FloatRange(0.0, 2.0)}
    wanted = dataclasses.replace(COLD, space=narrow, fixed={"steps": 9})
    taken, notes = await take_over(wanted, [source], rig.store)
    num_inside = sum(trial.params["x"] >= 0 for trial in source.trials)  # type: ignore[operator]
    assert 0 < num_inside < 8
    assert len(taken) == num_inside
    left_out = f"{8 - num_inside} outside of the space"
    assert notes == [
        f"took over {num_inside} of 8 trials of search {source.id}: {left_out}",
        f"the values of search {source.id} may not compare: {num_inside} had steps=5, not 9",
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": Objective("other", Direction.MINIMIZE)}, "2 without a value of other"),
        ({"space": {**PLANE, "unknown": FloatRange(0.0, 1.0)}}, "2 without a known unknown"),
    ],
)
async def test_trials_that_say_nothing_are_left_out(
    rig: SearchRig, changes: dict[str, Any], reason: str
) -> None:
    source = await earlier(rig, max_trials=2)
    taken, notes = await take_over(dataclasses.replace(COLD, **changes), [source], rig.store)
    assert not taken
    assert notes == [f"took over 0 of 2 trials of search {source.id}: {reason}"]


async def test_a_whole_number_counts_where_floats_are_searched(rig: SearchRig) -> None:
    source = await earlier(rig, space={"x": Choice((1, 2))}, sampler=Sampler.GRID, max_trials=2)
    wanted = dataclasses.replace(COLD, space={"x": FloatRange(0.0, 4.0)})
    taken, notes = await take_over(wanted, [source], rig.store)
    assert repr([one.params["x"] for one in taken]) == "[1.0, 2.0]"
    assert not notes


async def test_of_deleted_runs_the_value_that_was_told_counts(rig: SearchRig) -> None:
    source = await earlier(rig, max_trials=2)
    await rig.runs.delete(source.trials[0].run_id)
    taken, _ = await take_over(COLD, [source], rig.store)
    assert len(taken) == 2
    other = dataclasses.replace(COLD, objective=Objective("loss", Direction.MAXIMIZE))
    taken, notes = await take_over(other, [source], rig.store)
    assert [one.run_id for one in taken] == [source.trials[1].run_id]
    assert notes[0].endswith("1 of a run that was deleted")


def test_of_many_trials_the_best_and_the_latest_are_looked_at() -> None:
    few = list(range(NUM_BEST + NUM_LATEST))
    assert best_and_latest(few, lambda number: number) == few
    many = list(range(1000))
    kept = best_and_latest(many, lambda number: -number)
    assert kept == [*range(600 - NUM_BEST, 600), *range(600, 1000)]
    assert best_and_latest(many, lambda _: 0)[:NUM_BEST] == list(range(NUM_BEST))
