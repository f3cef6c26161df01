"""The state machine behind the iterators, by itself: any log, cut anywhere, comes out whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_client import errors
from lab_client.protocol.streams import EventStream
from lab_rpc.v1 import event_pb2
from lab_rpc.v1 import training_service_pb2 as pb

COMPLETED, STOPPED = event_pb2.RUN_STATE_COMPLETED, event_pb2.RUN_STATE_STOPPED


def make_log(num_events: int, ends: set[int]) -> list[event_pb2.RunEvent]:
    """Return a log with terminal states at some places, and at its end."""
    log = []
    for seq in range(1, num_events + 1):
        event = event_pb2.RunEvent(seq=seq)
        if seq in ends or seq == num_events:
            event.state.state = COMPLETED if seq == num_events else STOPPED
        else:
            event.metrics.steps.append(seq)
        log.append(event)
    return log


def seqs(message: event_pb2.RunEvent) -> list[int]:
    return [message.seq]


connections = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3)), max_size=8
)


@pytest.mark.slow
@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 30), st.sets(st.integers(1, 30)), connections)
def test_any_log_comes_out_whole_through_any_cuts(
    num_events: int, ends: set[int], cuts: list[tuple[int, list[int]]]
) -> None:
    log = make_log(num_events, ends)
    stream = EventStream("r", 0, seqs)
    seen: list[int] = []
    for repeated, sizes in [*cuts, (0, [num_events])]:
        request = stream.request()
        assert isinstance(request, pb.WatchRunRequest)
        # A server may send again what the client has, but leaves nothing out.
        at = max(0, request.after_seq - repeated)
        for size in sizes:  # answers until the connection is cut
            seen += stream.receive(pb.WatchRunResponse(events=log[at : at + size]))
            at = min(at + size, num_events)
    assert seen == list(range(1, num_events + 1))
    assert stream.is_complete


def test_the_first_event_is_had_before_the_others_are_converted() -> None:
    converted: list[int] = []

    def fold(message: event_pb2.RunEvent) -> list[int]:
        converted.append(message.seq)
        return [message.seq]

    items = iter(EventStream("r", 0, fold).receive(pb.WatchRunResponse(events=make_log(5, set()))))

    assert (next(items), converted) == (1, [1])
    assert list(items) == [2, 3, 4, 5]


@settings(deadline=None)
@given(st.integers(2, 30), st.data())
def test_any_gap_is_told(num_events: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(1, num_events - 1))
    log = [event for event in make_log(num_events, set()) if event.seq != missing]
    with pytest.raises(errors.EventGap) as caught:
        EventStream("r", 0, seqs).receive(pb.WatchRunResponse(events=log))
    assert (caught.value.expected, caught.value.received) == (missing, missing + 1)


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_a_stream_is_complete_only_when_its_last_event_is_an_end(
    num_events: int, data: st.DataObject
) -> None:
    ends = data.draw(st.sets(st.integers(1, num_events)))
    stream = EventStream("r", 0, seqs)
    assert not stream.is_complete
    for event in make_log(num_events, ends):
        stream.receive(pb.WatchRunResponse(events=[event]))
        assert stream.is_complete == event.HasField("state")
        stream.receive(pb.WatchRunResponse())  # a heartbeat changes nothing
        assert stream.is_complete == event.HasField("state")


def test_a_stream_with_a_bound_ends_with_it() -> None:
    stream = EventStream("r", 2, seqs, until_seq=5)
    assert list(stream.receive(pb.WatchRunResponse(events=make_log(9, set())))) == [3, 4, 5]
    assert stream.is_enough
