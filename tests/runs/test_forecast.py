"""When runs end and when the turn of those that wait comes, from the speed of what trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lab_server.model.run import Run, RunOptions, RunRequest, RunState
from lab_server.model.slot import Slot
from lab_server.supervisor.following import Following
from lab_server.supervisor.forecast import Forecast, duration, forecasts

CPU = Slot("cpu:0", "cpu")
OTHER = Slot("cpu:1", "cpu")
GPU = Slot("cuda:0", "cuda:0")


def _run(run_id: str, state: RunState = RunState.RUNNING, device: str = "", **fields: Any) -> Run:
    request = RunRequest("mnist", options=RunOptions(device=device))
    return Run(run_id, request, state=state, **fields)


def _waiting(run_id: str, key: int, device: str = "", **fields: Any) -> Run:
    return _run(run_id, RunState.QUEUED, device, queue_key=key, **fields)


def _trains(run_id: str = "a", **fields: Any) -> Run:
    return _run(run_id, **{"step": 100, "total_steps": 400, "steps_per_second": 2.0, **fields})


def test_a_run_ends_when_its_steps_are_done() -> None:
    assert forecasts([_trains()], [(CPU, "a")])["a"].ends_in_s == 150


def test_a_run_that_is_to_stop_earlier_ends_there() -> None:
    assert forecasts([_trains(until_step=200)], [(CPU, "a")])["a"].ends_in_s == 50


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"total_steps": 0}, "it does not say how many steps it has"),
        ({"steps_per_second": 0.0}, "its speed is not known yet"),
        ({"state": RunState.STOPPING}, "it is stopping"),
    ],
)
def test_what_is_not_known_is_said_as_not_known(fields: Any, reason: str) -> None:
    state = fields.pop("state", RunState.RUNNING)
    run = _run("a", state, **{"step": 1, "total_steps": 9, "steps_per_second": 1.0, **fields})
    assert forecasts([run], [(CPU, "a")])["a"] == Forecast(reason=reason)


def test_the_first_that_waits_comes_after_the_slot_that_is_free_first() -> None:
    runs = [_trains("a"), _trains("b", step=300), _waiting("c", 1)]
    found = forecasts(runs, [(CPU, "a"), (OTHER, "b")])["c"]
    assert found == Forecast(None, 50, "after b, which has 50 s to go")


def test_the_second_waits_for_the_other_slot_and_the_third_for_what_nobody_knows() -> None:
    runs = [
        _trains("a"),
        _trains("b", step=300),
        _waiting("c", 1),
        _waiting("d", 2),
        _waiting("e", 3),
    ]
    found = forecasts(runs, [(CPU, "a"), (OTHER, "b")])
    assert found["d"].reason == (
        "after a, which has 2 min 30 s to go, or earlier: when other slots are free is not known"
    )
    assert found["e"] == Forecast(
        reason="after d, which waits before it, and when that ends is not known"
    )


def test_one_that_was_trained_before_tells_how_long_it_takes() -> None:
    resumed = _waiting("c", 1, step=100, total_steps=200, steps_per_second=4.0)
    found = forecasts([_trains("a"), resumed, _waiting("d", 2)], [(CPU, "a")])
    assert (found["c"].starts_in_s, found["c"].ends_in_s) == (150, 175)
    assert found["d"] == Forecast(None, 175, "after c, which waits before it and takes 25 s")


def test_one_that_wants_a_gpu_does_not_wait_for_the_cpu() -> None:
    runs = [_trains("a"), _trains("b", step=390), _waiting("c", 1, device="cuda"), _waiting("d", 2)]
    found = forecasts(runs, [(CPU, "b"), (GPU, "a")])
    assert (found["c"].starts_in_s, found["d"].starts_in_s) == (150, 5)


def test_those_that_wait_get_their_turns_in_the_order_in_which_they_are_given() -> None:
    found = forecasts([_waiting("late", 9), _trains("a"), _waiting("c", 1)], [(CPU, "a")])
    assert found["late"].starts_in_s == 150
    assert found["c"].starts_in_s is None


def test_a_slot_that_nobody_knows_about_leaves_the_turn_unknown() -> None:
    found = forecasts([_trains("a", total_steps=0), _waiting("c", 1)], [(CPU, "a")])["c"]
    assert found == Forecast(reason="after a, and how long it takes is not known")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (62, "1 min 2 s"),
        (900, "15 min"),
        (7300, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_written_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


async def test_a_server_that_follows_knows_the_same_of_runs_on_its_leaders_agents() -> None:
    live = _trains(slot="hosts/vm/cpu:0")
    waits = _waiting("b", 1)

    async def nothing(*_: Any) -> Any:
        return ()

    async def unfinished() -> tuple[Run, ...]:
        return live, waits

    store: Any = SimpleNamespace(
        last_position=nothing, events_across=nothing, unfinished=unfinished, leader="other:50051"
    )
    hub: Any = None
    following = Following(store, hub, queue_limit=5)
    await following.read_on()
    found = following.forecasts()
    assert found == forecasts([live, waits], [(Slot("hosts/vm/cpu:0", "cpu", "hosts"), "a")])
    assert found["a"].ends_in_s == 150
    assert found["b"].starts_in_s == 150
