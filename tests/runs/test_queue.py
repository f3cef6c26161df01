"""The queue: who is next, how many may wait, and what a run that waits can be told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from lab_server.errors import QueueFull
from lab_server.model.run import Run, RunOptions, RunRequest, RunState, TrialOf
from lab_server.model.slot import Slot
from lab_server.supervisor.queue import RunQueue
from tests.runs.rig import Rig, becomes_true

on_one_loop = pytest.mark.asyncio(loop_scope="session")


def waiting(run_id: str, queue_key: int, priority: int = 0, device: str = "") -> Run:
    options = RunOptions(priority=priority, device=device)
    return Run(run_id, RunRequest("toy", options=options), queue_key=queue_key)


def test_higher_priorities_are_first_and_then_who_came_first() -> None:
    queue = RunQueue(limit=10)
    for run in (waiting("a", 1), waiting("b", 2, 5), waiting("c", 3, 5), waiting("d", 4, -1)):
        queue.add(run)
    assert list(queue) == ["b", "c", "a", "d"]
    assert [queue.position(run_id) for run_id in ("b", "d", "nobody")] == [1, 4, 0]


def test_each_run_that_waits_is_found_by_its_id() -> None:
    queue = RunQueue(limit=10)
    for queue_key, name in enumerate("cab"):
        queue.add(waiting(f"run-{name}", queue_key))
    assert [queue.position(f"run-{name}") for name in "cabd"] == [1, 2, 3, 0]


def test_a_run_that_is_tried_again_has_its_old_place() -> None:
    queue = RunQueue(limit=10)
    first, second = waiting("a", 1), waiting("b", 2)
    queue.add(second)
    queue.add(first)
    assert list(queue) == ["a", "b"]


def test_a_run_that_waits_for_a_gpu_holds_up_nobody() -> None:
    queue = RunQueue(limit=10)
    queue.add(waiting("a", 1, device="cuda:0"))
    queue.add(waiting("b", 2))
    assert queue.first(lambda wants: wants.device != "cuda:0") == "b"
    assert queue.first(lambda wants: False) is None


def test_removing_what_does_not_wait_is_nothing() -> None:
    queue = RunQueue(limit=10)
    queue.remove("a")
    queue.add(waiting("a", 1))
    queue.remove("a")
    assert len(queue) == 0


def test_a_full_queue_says_its_limit() -> None:
    queue = RunQueue(limit=1)
    another = waiting("c", 3)
    queue.check_room(another)
    queue.add(waiting("a", 1))
    with pytest.raises(QueueFull, match="1 runs are waiting"):
        queue.check_room(another)
    queue.add(waiting("b", 2))  # accepted before a restart, say
    with pytest.raises(QueueFull):
        queue.check_room(another)


def trial(search: str, number: int, queue_key: int, priority: int = 0) -> Run:
    options = RunOptions(priority=priority)
    request = RunRequest("toy", options=options, trial=TrialOf(search, number, 0))
    return Run(f"{search}{number}", request, queue_key=queue_key)


def order_of(queue: RunQueue) -> list[str]:
    """Give each that waits a slot, and return in which order."""
    order = []
    while (run_id := queue.first(lambda _: True)) is not None:
        queue.take(run_id)
        order.append(run_id)
    return order


def test_trials_wait_behind_all_other_runs_of_their_priority() -> None:
    queue = RunQueue(limit=10)
    for run in (trial("s", 0, 1), waiting("a", 2), trial("s", 1, 3, priority=1), waiting("b", 4)):
        queue.add(run)
    assert order_of(queue) == ["s1", "a", "b", "s0"]


def test_searches_take_turns_however_many_trials_each_has() -> None:
    queue = RunQueue(limit=100)
    for number in range(5):
        queue.add(trial("big", number, number))
    queue.take("big0")
    queue.take("big1")
    for number in range(3):  # begins with the turn that is now, not before and not behind all
        queue.add(trial("late", number, 100 + number))
    assert order_of(queue) == ["big2", "late0", "big3", "late1", "big4", "late2"]


def test_a_search_gains_no_turns_by_having_waited_for_nothing() -> None:
    queue = RunQueue(limit=100)
    queue.add(trial("idle", 0, 0))
    for number in range(20):
        queue.add(trial("busy", number, 1 + number))
    for run_id in ("idle0", *(f"busy{number}" for number in range(10))):
        queue.take(run_id)
    for number in range(1, 4):
        queue.add(trial("idle", number, 100 + number))
    assert order_of(queue)[:6] == ["busy10", "idle1", "busy11", "idle2", "busy12", "idle3"]


def test_trials_keep_nobody_else_out_of_the_queue() -> None:
    queue = RunQueue(limit=2)
    for number in range(2):
        queue.add(trial("s", number, number))
    with pytest.raises(QueueFull):
        queue.check_room(trial("s", 2, 2))
    queue.check_room(waiting("a", 3))


def taken(rig: Rig) -> list[str]:
    return [run_id for _, run_id in rig.supervisor.slots()]


@on_one_loop
async def test_a_run_too_many_is_refused_and_may_start_later(make_rig: Callable[..., Any]) -> None:
    rig: Rig = await make_rig(num_slots=1, queue_limit=1)
    busy, waits, too_many = [await rig.create(is_endless=True) for _ in range(3)]
    await rig.supervisor.start(busy.id)
    await rig.supervisor.start(waits.id)
    with pytest.raises(QueueFull):
        await rig.supervisor.start(too_many.id)
    assert (await rig.supervisor.get(too_many.id)).state is RunState.CREATED
    await rig.supervisor.stop(waits.id, checkpoint=False)
    assert (await rig.supervisor.start(too_many.id)).state is RunState.QUEUED


@on_one_loop
async def test_a_run_that_waits_says_its_place(make_rig: Callable[..., Any]) -> None:
    rig: Rig = await make_rig(num_slots=1)
    await rig.start(is_endless=True)
    await rig.start()
    run = await rig.start()
    run = await rig.supervisor.get(run.id)
    assert run.state is RunState.QUEUED
    assert run.reason == "waits for a slot, position 2 of 2 in the queue"
    assert rig.supervisor.queue_position(run.id) == 2


@pytest.mark.slow
@on_one_loop
async def test_live_runs_are_those_that_train_and_then_the_queue(
    make_rig: Callable[..., Any],
) -> None:
    rig: Rig = await make_rig(num_slots=1)
    trains = await rig.start(is_endless=True)
    trial_ = await rig.start(trial=TrialOf("s", 0, 0))
    of_a_person = await rig.start()
    urgent = await rig.start(options=RunOptions(priority=1))

    expected = [trains.id, urgent.id, of_a_person.id, trial_.id]
    assert [run.id for run in rig.supervisor.live()] == expected


@on_one_loop
async def test_a_slot_is_given_to_the_next_when_a_run_ends(make_rig: Callable[..., Any]) -> None:
    rig: Rig = await make_rig(num_slots=1)
    runs = [await rig.start() for _ in range(3)]
    ended = [await rig.ended(run) for run in runs]
    for before, after in pairwise(ended):
        assert before.end_time_ns < after.start_time_ns
    await becomes_true(lambda: taken(rig) == [""])


@pytest.mark.slow
@on_one_loop
async def test_a_run_gets_the_device_that_it_asks_for(make_rig: Callable[..., Any]) -> None:
    slots = (Slot("cuda:0", "cuda:0"), Slot("cuda:1#0", "cuda:1"), Slot("cuda:1#1", "cuda:1"))
    rig: Rig = await make_rig(slots=slots)
    busy = await rig.start(is_endless=True, options=RunOptions(device="cuda:1"))
    run = await rig.ended(await rig.start("environment", options=RunOptions(device="cuda:1")))
    assert "device '1'" in await rig.lines(run)
    assert (await rig.supervisor.get(busy.id)).slot == "cuda:1#0"
    await becomes_true(lambda: taken(rig) == ["", busy.id, ""])


@on_one_loop
async def test_a_gpu_that_torch_cannot_use_fails_the_run_at_once(
    make_rig: Callable[..., Any],
) -> None:
    rig: Rig = await make_rig(slots=(Slot("cuda:999", "cuda:999"),))
    run = await rig.ended(await rig.start())
    assert run.state is RunState.FAILED
    assert "cannot use the GPU of the slot cuda:999" in run.reason
    assert (run.step, run.attempt) == (0, 1)
