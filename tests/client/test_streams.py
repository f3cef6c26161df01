"""What is read from streams: nothing left out, nothing twice, whatever happens to the connection."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from lab_client import RunState, errors
from lab_client.events import StateChange
from lab_rpc.v1 import event_pb2
from tests.client.conftest import MakeClient
from tests.client.twin import Twin


@pytest.fixture
def run_id(twin: Twin) -> str:
    run = twin.add_run()
    run.train(num_events=20)
    return run.message.id


def test_events_are_gap_free_and_end_with_the_terminal_state(client: Any, run_id: str) -> None:
    events = list(client.run(run_id).events())
    assert [event.seq for event in events] == list(range(1, 23))
    assert events[-1].body == StateChange(RunState.COMPLETED, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_event_is_lost_or_doubled_through_any_number_of_cuts(
    client: Any, twin: Twin, run_id: str, seed: int
) -> None:
    random_cuts = random.Random(seed)
    twin.events_per_answer = random_cuts.randint(1, 3)
    twin.cuts.extend(random_cuts.choice([0, 1, 2, 3, -1, -2]) for _ in range(12))
    assert [event.seq for event in client.watch(run_id)] == list(range(1, 23))
    assert twin.calls["WatchRun"] >= 4


def test_a_stream_goes_on_when_the_server_is_restarted(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    run.measure(0, loss=[1.0])
    events = client.watch(run.message.id)
    seen = [next(events).seq, next(events).seq]
    twin.restart()
    run.measure(1, loss=[0.5])
    run.state(event_pb2.RUN_STATE_COMPLETED)
    assert seen + [event.seq for event in events] == [1, 2, 3, 4]


def test_a_stream_that_the_server_ends_early_is_read_on(
    client: Any, twin: Twin, run_id: str
) -> None:
    twin.cuts.extend([-3, -1])
    assert len(list(client.watch(run_id))) == 22
    assert twin.calls["WatchRun"] == 3


def test_a_gap_is_a_typed_error(client: Any, twin: Twin, run_id: str) -> None:
    twin.skip_seq = 5
    with pytest.raises(errors.EventGap) as caught:
        list(client.watch(run_id))
    assert (caught.value.run_id, caught.value.expected, caught.value.received) == (run_id, 5, 6)


def test_the_log_of_a_resumed_run_is_read_past_its_first_end(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.train(num_events=2)
    run.message.attempt = 2
    run.state(event_pb2.RUN_STATE_QUEUED)
    run.add(truncate=event_pb2.Truncate(after_step=3))
    run.measure(4, loss=[0.1, 0.05])
    run.state(event_pb2.RUN_STATE_COMPLETED)
    assert [event.seq for event in client.watch(run.message.id)] == list(range(1, 9))


def test_watching_after_the_last_event_ends_at_once(client: Any, run_id: str) -> None:
    run = client.run(run_id)
    assert list(run.events(after_seq=22)) == []
    assert list(client.watch(run_id, after_seq=22)) == []
    assert [event.seq for event in run.events(after_seq=20)] == [21, 22]


def test_without_follow_the_iterators_end_with_what_there_is(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    handle = client.run(run.message.id)
    assert list(handle.events(follow=False)) == []
    run.state(event_pb2.RUN_STATE_RUNNING)
    run.measure(0, loss=[1.0, 0.5])
    run.add(log=event_pb2.Log(level=event_pb2.LOG_LEVEL_WARNING, lines=["one", "two"]))
    assert [event.seq for event in handle.events(follow=False)] == [1, 2, 3]
    assert [point.step for point in handle.metrics(follow=False)] == [0, 1]
    lines = list(handle.logs(follow=False))
    assert [(line.level, line.text) for line in lines] == [("WARNING", "one"), ("WARNING", "two")]


def test_a_stream_gives_up_after_the_set_time_without_progress(
    make_client: MakeClient, twin: Twin
) -> None:
    run = twin.add_run()
    client = make_client(reconnect_timeout_s=0.5)
    run.state(event_pb2.RUN_STATE_RUNNING)
    events = client.watch(run.message.id)
    assert next(events).seq == 1
    twin.stop()
    with pytest.raises(errors.Unavailable, match="without progress"):
        list(events)


@pytest.mark.slow
def test_a_stream_that_is_silent_is_opened_again(
    make_client: MakeClient, twin: Twin, run_id: str
) -> None:
    twin.hang_streams = 2
    client = make_client(idle_timeout_s=0.2)
    assert len(list(client.watch(run_id))) == 22
    assert twin.calls["WatchRun"] == 3


def test_an_error_in_the_middle_of_a_stream_is_a_typed_one(
    client: Any, twin: Twin, run_id: str
) -> None:
    twin.cuts.append(3)
    events = client.watch(run_id)
    assert [next(events).seq for _ in range(3)] == [1, 2, 3]
    twin.failures["WatchRun"] = deque([grpc.StatusCode.PERMISSION_DENIED])
    with pytest.raises(errors.PermissionDenied):
        next(events)


def test_a_run_deleted_while_it_is_watched_is_not_found(
    client: Any, twin: Twin, run_id: str
) -> None:
    twin.cuts.append(3)
    events = client.watch(run_id)
    next(events)
    del twin.runs[run_id]
    with pytest.raises(errors.RunNotFound):
        list(events)


def test_wait_ends_in_time(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    handle = client.run(run.message.id)
    with pytest.raises(errors.DeadlineExceeded, match="did not end within"):
        handle.wait(timeout_s=0.3)


def test_wait_returns_how_the_run_ended(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    handle = client.run(run.message.id)
    twin.when_watched(run.state, event_pb2.RUN_STATE_FAILED, "out of memory")
    assert handle.wait().state is RunState.FAILED
    with pytest.raises(errors.RunFailed, match="out of memory"):
        handle.wait(check=True)


def test_waiting_for_a_run_that_was_never_started_is_an_error(client: Any) -> None:
    with pytest.raises(errors.InvalidState, match="start"):
        client.create("mnist").wait()


@pytest.mark.parametrize("iterator", ["metrics", "events", "logs", "batches"])
def test_following_a_run_that_was_never_started_is_an_error(
    client: Any, twin: Twin, iterator: str
) -> None:
    handle = client.create("mnist")
    with pytest.raises(errors.InvalidState, match=r"was not started.*start\(\).*follow=False"):
        list(getattr(handle, iterator)())
    assert list(getattr(handle, iterator)(follow=False)) is not None
    other = client.run(handle.id)
    other.start()  # by another handle, so that the first one does not know of it
    twin.when_watched(twin.runs[handle.id].state, event_pb2.RUN_STATE_COMPLETED)
    assert list(getattr(handle, iterator)()) is not None


@pytest.mark.parametrize("iterator", ["metrics", "events", "logs", "batches"])
def test_what_is_known_of_a_run_is_as_new_as_what_was_read(
    client: Any, twin: Twin, iterator: str
) -> None:
    handle = client.create("mnist").start()
    twin.when_watched(twin.runs[handle.id].train)
    list(getattr(handle, iterator)())
    assert (handle.info.state, handle.info.step) == (RunState.COMPLETED, 19)


def test_the_end_is_known_though_the_server_is_gone_after_it(client: Any, twin: Twin) -> None:
    handle = client.create("mnist").start()
    run = twin.runs[handle.id]
    twin.when_watched(run.state, event_pb2.RUN_STATE_STOPPED, "asked to")
    for event in handle.events():
        if event.kind == "state" and event.body.state is RunState.STOPPED:
            twin.refusals["GetRun"] = (code_pb2.INTERNAL, "it broke")
    assert (handle.info.state, handle.info.reason) == (RunState.STOPPED, "asked to")


def test_an_iterator_that_is_left_ends_its_call(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    events = client.watch(run.message.id)
    next(events)
    events.close()
    assert client.get(run.message.id).state is RunState.RUNNING


def test_metrics_of_many_runs_go_on_at_a_cursor(make_client: MakeClient, twin: Twin) -> None:
    for _ in range(2):
        twin.add_run().train(num_events=3)
    twin.cuts.extend([1, 2])
    updates = make_client().watch_metrics(from_start=True)
    first = [next(updates) for _ in range(4)]
    rest = make_client().watch_metrics(cursor=first[-1].cursor)
    seen = first + [next(rest) for _ in range(6)]
    expected = [(run_id, seq) for run_id in twin.runs for seq in range(1, 6)]
    assert [(update.run_id, update.event.seq) for update in seen] == expected


def test_metrics_of_many_runs_start_with_what_comes_from_now_on(client: Any, twin: Twin) -> None:
    twin.add_run().train()
    run = twin.add_run()
    updates = client.watch_metrics()
    twin.when_watched(run.measure, 7, loss=[0.5])
    update = next(updates)
    assert (update.run_id, update.event.body.steps) == (run.message.id, [7])


def test_a_run_state_of_a_newer_server_is_told_and_not_guessed(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.message.state = 99  # type: ignore[assignment]
    with pytest.raises(errors.IncompatibleServer, match="update the client"):
        client.get(run.message.id)


def test_closing_the_client_ends_its_streams(make_client: MakeClient, twin: Twin) -> None:
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    client = make_client()
    events = client.watch(run.message.id)
    next(events)
    client.close()
    with pytest.raises(errors.InvalidState, match="closed"):
        next(events)
