"""The RPCs of SearchService over a real port: what they answer, and what bad input gets."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from lab_core.errors import Violation
from lab_rpc.v1 import config_pb2, search_pb2, search_service_pb2
from lab_server.errors import CheckCrashed
from lab_server.messages import events
from lab_server.model.domain import Choice
from lab_server.model.run import RunState
from lab_server.model.search import Budget, Direction, Objective, Sampler, SearchSpec
from lab_server.rpc.search_requests import NO_END
from tests.server.conftest import Surface
from tests.server.test_service_bad_input import INVALID, NOT_FOUND, PRECONDITION, details, refused

# the stubs of the generated modules take no plain data
pb: Any = search_service_pb2
wire: Any = search_pb2
Value = config_pb2.Value
MINIMIZE = search_pb2.DIRECTION_MINIMIZE


def choice(*values: int) -> Any:
    numbers = [Value(int_value=value) for value in values]
    return wire.Domain(choice=config_pb2.ListValue(values=numbers))


def texts(num: int) -> Any:
    values = [Value(string_value=f"text {number}") for number in range(num)]
    return wire.Domain(choice=config_pb2.ListValue(values=values))


def floats(low: float, high: float, **more: Any) -> Any:
    return wire.Domain(float_range={"low": low, "high": high, **more})


def a_spec(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "experiment": "mnist",
        "space": {"epochs": choice(1, 2)},
        "objective": {"metric": "loss", "direction": MINIMIZE},
        "seed": 1,
    }
    return wire.SearchSpec(**(fields | changes))


async def create(surface: Surface, key: str = "", **changes: Any) -> search_pb2.Search:
    request = pb.CreateSearchRequest(spec=a_spec(**changes), idempotency_key=key)
    search: search_pb2.Search = (await surface.search_stub.CreateSearch(request)).search
    return search


async def violations(surface: Surface, **changes: Any) -> dict[str, str]:
    """Return by field what is wrong with a search."""
    request = pb.CreateSearchRequest(spec=a_spec(**changes))
    error = await refused(surface.search_stub.CreateSearch(request))
    assert error.code() is INVALID
    bad = details(error, error_details_pb2.BadRequest)
    return {v.field: v.description for v in bad.field_violations}


async def test_everything_that_is_wrong_comes_at_once(surface: Surface) -> None:
    found = await violations(
        surface,
        space={
            "epoch": choice(1),
            "epochs": choice(0, 1),
            "learning_rate": floats(0.0, 0.1, is_log=True),
        },
        objective={"metric": "los*"},
        budget={"parallel": 1001},
        halving={"min_steps": 0, "eta": 1},
    )
    assert found == {
        "epoch": "unknown config 'epoch'; did you mean 'epochs'?",
        "epochs": "epochs must be at least 1, got 0",
        "learning_rate": "learning_rate: a log-scale range begins above 0, got 0.0",
        "objective.metric": "objective.metric is the whole name of one metric, without wildcards,"
        " got 'los*'",
        "objective.direction": "objective.direction must be MINIMIZE or MAXIMIZE",
        "budget.max_trials": NO_END,
        "budget.parallel": "budget.parallel must be between 0 and 1000, got 1001",
        "halving.min_steps": f"halving.min_steps must be between 1 and {2**40}, got 0",
        "halving.eta": "halving.eta must be between 2 and 1000, got 1",
    }


async def test_everything_that_is_wrong_with_an_empty_search_comes_at_once(
    surface: Surface,
) -> None:
    request = pb.CreateSearchRequest(spec=wire.SearchSpec(experiment="mnst", sampler=4, seed=2**60))
    error = await refused(surface.search_stub.CreateSearch(request))
    assert error.code() is INVALID
    bad = details(error, error_details_pb2.BadRequest)
    assert {v.field: v.description for v in bad.field_violations} == {
        "space": "the space is empty: say which items to search, and what they may be",
        "objective.metric": "objective.metric must not be empty",
        "objective.direction": "objective.direction must be MINIMIZE or MAXIMIZE",
        "budget.max_trials": NO_END,
        "seed": f"seed must be below 2**53, got {2**60}",
        "experiment": "there is no experiment 'mnst'; did you mean 'mnist'?",
    }


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"space": {}}, "space", "the space is empty"),
        ({"space": {"epochs": choice()}}, "epochs", "a choice needs at least one value"),
        ({"space": {"epochs": choice(1, 1)}}, "epochs", "each value once, 1 is there twice"),
        (
            {"space": {"learning_rate": floats(1.0, 0.5)}, "budget": {"max_trials": 2}},
            "learning_rate",
            "from low to high, got 1.0 to 0.5",
        ),
        (
            {"space": {"learning_rate": floats(0.1, math.inf)}, "budget": {"max_trials": 2}},
            "learning_rate",
            "finite bounds",
        ),
        (
            {"space": {"learning_rate": floats(-1, 1, is_log=True)}, "budget": {"max_trials": 2}},
            "learning_rate",
            "begins above 0",
        ),
        (
            {
                "space": {"epochs": wire.Domain(int_range={"low": 0, "high": 9})},
                "budget": {"max_trials": 2},
            },
            "epochs",
            "must be at least 1, got 0",
        ),
        ({"space": {"epochs": floats(1, 2)}, "budget": {"max_trials": 2}}, "epochs", "int"),
        ({"space": {"label": wire.Domain()}}, "label", "say which values to search"),
        ({"sampler": search_pb2.SAMPLER_TPE}, "budget.max_trials", "say how many trials"),
        (
            {
                "space": {"learning_rate": floats(0.1, 1)},
                "sampler": search_pb2.SAMPLER_GRID,
            },
            "learning_rate",
            "a grid needs a list of values",
        ),
        (
            {"space": {"epochs": choice(*range(1, 401)), "label": texts(300)}},
            "budget.max_trials",
            "the grid has 120000 points; say how many of them to try, at most 100000",
        ),
        ({"budget": {"max_trials": 100_001}}, "budget.max_trials", "got 100001"),
        ({"budget": {"max_seconds": math.nan}}, "budget.max_seconds", "seconds"),
        ({"budget": {"max_steps": -1}}, "budget.max_steps", "got -1"),
        ({"objective": {"metric": "", "direction": MINIMIZE}}, "objective.metric", "empty"),
        (
            {"objective": {"metric": "m", "direction": MINIMIZE, "reduction": 3}},
            "objective.num_last",
            "between 1 and",
        ),
        ({"config": config_pb2.ConfigMessage(models=["nothing"])}, "models", "is not an item"),
        (
            {"config": config_pb2.ConfigMessage(overrides={"epochs": Value(int_value=1)})},
            "epochs",
            "both searched and given",
        ),
        (
            {"config": config_pb2.ConfigMessage(overrides={"lab": Value(int_value=1)})},
            "lab",
            "did you mean 'label'",
        ),
        ({"options": {"device": "tpu"}}, "options.device", "has no device 'tpu'"),
        ({"tags": [""]}, "tags[0]", "must not be empty"),
        ({"seed": 2**60}, "seed", "must be below"),
        ({"sampler": 77}, "sampler", "77 is not a sampler"),
        ({"mode": 77}, "mode", "77 is not a mode"),
    ],
)
async def test_a_search_that_cannot_be_is_refused(
    surface: Surface, changes: dict[str, Any], field: str, sentence: str
) -> None:
    found = await violations(surface, **changes)
    assert sentence in found[field]
    listed = await surface.search_stub.ListSearches(pb.ListSearchesRequest())
    assert not listed.searches


async def test_what_was_left_open_is_filled_in_and_told(surface: Surface) -> None:
    search = await create(surface, space={"optimizer": wire.Domain(), "epochs": choice(1, 2)})
    spec = search.spec
    assert spec.sampler == search_pb2.SAMPLER_GRID
    assert (spec.budget.max_trials, spec.budget.parallel, spec.name) == (4, 1, "mnist")
    options = [value.string_value for value in spec.space["optimizer"].choice.values]
    assert options == ["sgd_optimizer", "adam_optimizer"]
    wide = a_spec(space={"learning_rate": floats(0.1, 1)}, budget={"max_trials": 3})
    wide.ClearField("seed")
    search = (await surface.search_stub.CreateSearch(pb.CreateSearchRequest(spec=wide))).search
    assert search.spec.sampler == search_pb2.SAMPLER_TPE
    assert search.spec.HasField("seed")


async def test_a_metric_that_no_run_has_reported_is_only_warned_of(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.say(run, *_metrics("a.weight", 1.0), *_metrics("loss", 1.0))
    for metric, hint in (("los", "did you mean 'loss'?"), ("x", "there is 'loss', 'a.weight'")):
        spec = a_spec(objective={"metric": metric, "direction": MINIMIZE})
        answer = await surface.search_stub.CreateSearch(pb.CreateSearchRequest(spec=spec))
        (warning,) = answer.warnings
        assert warning.endswith(f"has reported the metric {metric!r}; {hint}")
    request = pb.CreateSearchRequest(spec=a_spec())
    assert not (await surface.search_stub.CreateSearch(request)).warnings


async def test_the_same_key_gives_the_same_search(surface: Surface) -> None:
    first = await create(surface, key="k")
    assert (await create(surface, key="k")).id == first.id
    request = pb.CreateSearchRequest(spec=a_spec(seed=2), idempotency_key="k")
    error = await refused(surface.search_stub.CreateSearch(request))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_search_that_was_created_is_given_again_though_what_it_asked_for_is_gone(
    surface: Surface,
) -> None:
    source = await create(surface)
    stub = surface.search_stub
    await stub.StopSearch(pb.StopSearchRequest(search_id=source.id, with_trials=True))
    await _ended(surface, source.id)
    wanted = {"budget": {"max_trials": 2}, "warm_start": [source.id]}
    first = await create(surface, key="k", **wanted)
    await stub.DeleteSearch(pb.DeleteSearchRequest(search_id=source.id))
    assert (await create(surface, key="k", **wanted)).id == first.id
    assert set(await violations(surface, **wanted)) == {"warm_start[0]"}


async def test_what_it_learns_from_is_found_by_prefix_and_kept_by_its_whole_id(
    surface: Surface,
) -> None:
    source = await create(surface)
    run = await surface.run(RunState.CREATED)
    request = pb.CreateSearchRequest(
        spec=a_spec(
            budget={"max_trials": 2},
            warm_start=[source.id[:-1], run.id, source.id],
        )
    )
    answer = await surface.search_stub.CreateSearch(request)
    assert list(answer.search.spec.warm_start) == [source.id, run.id]
    assert answer.search.spec.sampler == search_pb2.SAMPLER_TPE
    assert answer.search.num_taken_over == 0
    assert f"took over 0 of 1 trials of run {run.id}: 1 not trained to the end" in answer.warnings


async def test_all_that_is_wrong_with_what_it_learns_from_comes_at_once(surface: Surface) -> None:
    found = await violations(
        surface,
        sampler=search_pb2.SAMPLER_RANDOM,
        budget={"max_trials": 2},
        warm_start=["20991231", "../../etc", ""],
    )
    assert found == {
        "warm_start": "only the sampler TPE learns from earlier searches and runs",
        "warm_start[0]": "there is no search or run '20991231'",
        "warm_start[1]": "there is no search or run '../../etc'",
        "warm_start[2]": "warm_start[2] must not be empty",
    }
    many = [f"2099{number:04}" for number in range(11)]
    found = await violations(surface, budget={"max_trials": 2}, warm_start=many)
    assert found["warm_start"] == "warm_start must be between 0 and 10, got 11"
    found = await violations(surface, warm_start=["20991231"])
    assert set(found) == {"warm_start[0]", "budget.max_trials"}


async def test_nothing_is_learned_from_another_experiment(surface: Surface) -> None:
    spec = SearchSpec(
        "toy",
        {"a": Choice((1,))},
        Objective("loss", Direction.MINIMIZE),
        Budget(1),
        Sampler.GRID,
        seed=1,
    )
    other = await surface.searches.create(spec, owner="", idempotency=None)
    found = await violations(surface, budget={"max_trials": 2}, warm_start=[other.id])
    assert found == {"warm_start[0]": f"{other.id} is of 'toy', not 'mnist'"}


async def test_an_unknown_experiment_and_a_broken_one_are_refused(surface: Surface) -> None:
    request = pb.CreateSearchRequest(spec=a_spec(experiment="mnst"))
    error = await refused(surface.search_stub.CreateSearch(request))
    assert error.code() is NOT_FOUND
    assert "did you mean 'mnist'?" in str(error.details())
    request = pb.CreateSearchRequest(spec=a_spec(experiment="broken"))
    assert (await refused(surface.search_stub.CreateSearch(request))).code() is INVALID
    found = await violations(surface, experiment="broken", budget={"parallel": 1001})
    assert set(found) == {"experiment", "budget.parallel"}


async def test_a_search_is_found_by_a_prefix_and_others_are_not(surface: Surface) -> None:
    search = await create(surface)
    get = surface.search_stub.GetSearch
    assert (await get(pb.GetSearchRequest(search_id=search.id[:20]))).search.id == search.id
    assert (await refused(get(pb.GetSearchRequest()))).code() is INVALID
    for unknown in ("20991231", "../../etc", "x" * 5000):
        error = await refused(get(pb.GetSearchRequest(search_id=unknown)))
        assert error.code() is NOT_FOUND
        assert "there is no search" in str(error.details())
    delete = pb.DeleteSearchRequest(search_id=search.id[:20])
    assert (await refused(surface.search_stub.DeleteSearch(delete))).code() is NOT_FOUND


async def test_searches_are_listed_by_page_and_filter(surface: Surface) -> None:
    ids = [(await create(surface)).id for _ in range(3)]
    stub = surface.search_stub
    await stub.StopSearch(pb.StopSearchRequest(search_id=ids[0], with_trials=True))
    await _ended(surface, ids[0])
    request = pb.ListSearchesRequest(page_size=2)
    page = await stub.ListSearches(request)
    token = page.next_page_token
    rest = await stub.ListSearches(pb.ListSearchesRequest(page_size=2, page_token=token))
    assert [s.id for s in (*page.searches, *rest.searches)] == sorted(ids, reverse=True)
    assert not rest.next_page_token
    stopped = await stub.ListSearches(
        pb.ListSearchesRequest(states=[search_pb2.SEARCH_STATE_STOPPED])
    )
    assert [s.id for s in stopped.searches] == [ids[0]]
    assert not (await stub.ListSearches(pb.ListSearchesRequest(experiment="x"))).searches
    forged = pb.ListSearchesRequest(page_size=2, page_token=token, experiment="x")
    assert (await refused(stub.ListSearches(forged))).code() is INVALID
    assert (await refused(stub.ListSearches(pb.ListSearchesRequest(states=[9])))).code() is INVALID


async def test_a_stopped_search_ends_with_its_trials_and_its_watch(surface: Surface) -> None:
    search = await create(surface, budget={"parallel": 2})
    stub = surface.search_stub
    await stub.StopSearch(pb.StopSearchRequest(search_id=search.id, with_trials=True))
    entries = await _ended(surface, search.id)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].created.spec.experiment == "mnist"
    assert entries[-1].ended.state == search_pb2.SEARCH_STATE_STOPPED
    later = [e async for r in stub.WatchSearch(_watch(search.id, 2)) for e in r.entries]
    assert later == entries[2:]
    error = await refused(stub.WatchSearch(_watch(search.id, 99)))
    assert error.code() is INVALID
    trials = (await stub.ListTrials(pb.ListTrialsRequest(search_id=search.id))).trials
    assert {t.state for t in trials} <= {search_pb2.TRIAL_STATE_LEFT_OUT}
    again = stub.StopSearch(pb.StopSearchRequest(search_id=search.id))
    assert (await refused(again)).code() is PRECONDITION
    await stub.DeleteSearch(pb.DeleteSearchRequest(search_id=search.id))
    assert (
        await refused(stub.GetSearch(pb.GetSearchRequest(search_id=search.id)))
    ).code() is NOT_FOUND


async def test_a_search_that_waits_says_for_what(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(*_: object) -> tuple[Violation, ...]:
        raise CheckCrashed([Violation("", "the experiment's own checks crashed")])

    monkeypatch.setattr(surface.executor, "check", check)
    search = await create(surface)
    stub = surface.search_stub
    watch = stub.WatchSearch(_watch(search.id, 0))
    async with asyncio.timeout(30):
        while not (told := await watch.read()).waits_for:
            pass
    found = (await stub.GetSearch(pb.GetSearchRequest(search_id=search.id))).search
    assert (found.reason, list(found.trials)) == ("the experiment's own checks crashed", [])
    (listed,) = (await stub.ListSearches(pb.ListSearchesRequest())).searches
    assert listed.reason == found.reason
    assert told.waits_for == found.reason
    monkeypatch.undo()
    async with asyncio.timeout(30):
        while (await watch.read()).waits_for:
            pass
    watch.cancel()
    await stub.StopSearch(pb.StopSearchRequest(search_id=search.id, with_trials=True))


async def test_a_running_search_is_not_deleted_and_beats(surface: Surface) -> None:
    search = await create(surface)
    stub = surface.search_stub
    error = await refused(stub.DeleteSearch(pb.DeleteSearchRequest(search_id=search.id)))
    assert error.code() is PRECONDITION
    assert "stop it first" in str(error.details())
    async for response in stub.WatchSearch(_watch(search.id, 0)):
        if not response.entries:
            break


@pytest.mark.parametrize(
    ("changes", "paths", "field"),
    [
        ({}, [], "update_mask"),
        ({}, ["spec"], "update_mask"),
        ({"budget": {"max_trials": 0}}, ["budget.max_trials"], "budget.max_trials"),
        ({"budget": {"parallel": 0}}, ["budget.parallel"], "budget.parallel"),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    surface: Surface, changes: dict[str, Any], paths: list[str], field: str
) -> None:
    search = await create(surface)
    request = pb.UpdateSearchRequest(search_id=search.id, update_mask={"paths": paths}, **changes)
    error = await refused(surface.search_stub.UpdateSearch(request))
    assert error.code() is INVALID
    assert field in {v.field for v in details(error, error_details_pb2.BadRequest).field_violations}


async def test_points_outside_of_the_space_are_refused(surface: Surface) -> None:
    search = await create(surface)
    for params in ({}, {"epochs": Value(int_value=7)}, {"label": Value(string_value="x")}):
        points = [{"params": {"epochs": Value(int_value=1)}}, {"params": params}]
        request = pb.EnqueueTrialsRequest(search_id=search.id, points=points)
        error = await refused(surface.search_stub.EnqueueTrials(request))
        assert error.code() is INVALID
        bad = details(error, error_details_pb2.BadRequest)
        assert [v.field for v in bad.field_violations] == ["points[1]"]
    request = pb.EnqueueTrialsRequest(search_id=search.id)
    assert (await refused(surface.search_stub.EnqueueTrials(request))).code() is INVALID


async def test_a_whole_number_is_a_point_of_a_range_of_floats(surface: Surface) -> None:
    space = {"learning_rate": floats(0.5, 2)}
    search = await create(surface, space=space, budget={"max_trials": 9}, sampler="SAMPLER_RANDOM")
    points = [{"params": {"learning_rate": Value(int_value=1)}}]
    request = pb.EnqueueTrialsRequest(search_id=search.id, points=points)
    await surface.search_stub.EnqueueTrials(request)
    folded = await surface.searches.folded(search.id)
    tried = [*folded.points, *(trial.params for trial in folded.trials)]
    assert any(repr(point["learning_rate"]) == "1.0" for point in tried)


async def test_pausing_twice_is_once_and_the_budget_changes_by_field(surface: Surface) -> None:
    search = await create(surface, budget={"parallel": 2, "max_seconds": 1000.0})
    stub = surface.search_stub
    pause = pb.UpdateSearchRequest(
        search_id=search.id, paused=True, update_mask={"paths": ["paused"]}
    )
    for _ in range(2):
        answer = await stub.UpdateSearch(pause)
        assert answer.search.state == search_pb2.SEARCH_STATE_PAUSED
    more = pb.UpdateSearchRequest(
        search_id=search.id,
        budget={"max_trials": 1},
        update_mask={"paths": ["budget.max_trials"]},
    )
    budget = (await stub.UpdateSearch(more)).search.spec.budget
    assert (budget.max_trials, budget.parallel, budget.max_seconds) == (1, 2, 1000.0)
    go_on = pb.UpdateSearchRequest(search_id=search.id, update_mask={"paths": ["paused"]})
    answer = await stub.UpdateSearch(go_on)
    assert answer.search.state == search_pb2.SEARCH_STATE_RUNNING


def _watch(search_id: str, after_seq: int) -> Any:
    return pb.WatchSearchRequest(search_id=search_id, after_seq=after_seq)


async def _ended(surface: Surface, search_id: str) -> list[search_pb2.SearchEntry]:
    """Return a search's log when it has ended."""
    stream = surface.search_stub.WatchSearch(_watch(search_id, 0))
    return [entry async for response in stream for entry in response.entries]


class _Column:
    def __init__(self, name: str, value: float) -> None:
        self.name, self.steps, self.values = name, [1], [value]


def _metrics(name: str, value: float) -> list[events.EncodedEvent]:
    return events.encode_metrics(1, 1, [_Column(name, value)])
