"""Events with metrics that are read many at once come to what they come to one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_rpc.v1 import event_pb2
from lab_server.messages import alike, events, projection
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest

RUN = Run("r1", RunRequest("mnist"), step=3, metrics={"a": 5.0}, extremes={"a": (0.5, 7.0)})
VALUES = st.sampled_from([0.0, -1.5, 2.25, 1e308, -1e308, math.nan, math.inf, -math.inf])


@dataclass(frozen=True)
class Column:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


def encoded(step: int, columns: dict[str, list[float]], time_ns: int = 1 << 60) -> EncodedEvent:
    """Return an event as trainers write it: columns shorter than the others have rows."""
    made = [
        Column(name, list(range(step, step + len(values))), values)
        for name, values in columns.items()
    ]
    (event,) = events.encode_metrics(1, time_ns, made)
    return event


def foreign(event: EncodedEvent, way: str) -> EncodedEvent:
    """Return an event as another program might write it."""
    message = event_pb2.RunEvent.FromString(event.payload)
    if way == "reordered":
        message.seq = 7
    elif way == "without steps":
        del message.metrics.steps[:]
    elif way == "a name twice":
        message.metrics.columns.extend(message.metrics.columns[:1])
    elif way == "in two pieces":
        return events.recognise(message.SerializeToString() + message.SerializeToString())
    elif way == "a huge step":
        message.metrics.steps[-1] = 2**62
    return events.recognise(message.SerializeToString())


@st.composite
def logs(draw: st.DrawFn) -> list[EncodedEvent]:
    log = []
    for _ in range(draw(st.integers(2, 12))):
        names = draw(st.sampled_from(["a", "ab", "ba", "c"]))
        sizes = st.integers(1, 2)
        columns = {
            name: draw(st.lists(VALUES, min_size=n, max_size=n))
            for name in names
            for n in [draw(sizes)]
        }
        step = draw(st.sampled_from([0, 100, 127, 128, 20_000]))
        event = encoded(step, columns, draw(st.sampled_from([1, 1 << 60])))
        ways = [
            "",
            "",
            "",
            "reordered",
            "without steps",
            "a name twice",
            "in two pieces",
            "a huge step",
        ]
        way = draw(st.sampled_from(ways))
        log.append(foreign(event, way) if way else event)
    return log


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(log=logs())
def test_many_events_come_to_what_they_come_to_one_by_one(log: list[EncodedEvent]) -> None:
    one_by_one = RUN
    for event in log:
        one_by_one = projection.apply_event(one_by_one, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_MANY_BYTES", 0)
        at_once = projection.apply_events(RUN, log)

    assert repr(in_order(at_once)) == repr(in_order(one_by_one))  # as text NaN equals NaN


def in_order(run: Run) -> Run:
    def ordered(values: Any) -> dict[str, Any]:
        return dict(sorted(values.items()))

    return replace(run, metrics=ordered(run.metrics), extremes=ordered(run.extremes))


def test_events_that_are_laid_out_alike_are_not_decoded() -> None:
    log = [encoded(step, {"loss": [step / 2, 1.0], "acc": [0.5, 0.25]}) for step in range(20, 100)]
    log += [encoded(step, {"lost": [1.0, step], "acc": [0.5, 0.75]}) for step in range(20, 100)]

    found = alike.find([event.payload for event in log])

    assert found.others == []
    assert found.step == 100
    assert found.last == {"loss": (79, 1.0), "lost": (159, 99.0), "acc": (159, 0.75)}
    assert found.extremes == {"loss": (1.0, 49.5), "lost": (1.0, 99.0), "acc": (0.25, 0.75)}


@pytest.mark.parametrize("end", [-1, -8, -16, 40])
def test_events_that_are_cut_off_are_refused_as_one_is(
    end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_MANY_BYTES", 0)
    payload = encoded(100, {"loss": [1.0, 2.0], "acc": [0.5, 0.25]}).payload
    with pytest.raises(DecodeError):
        projection.apply_events(RUN, [EncodedEvent("metrics", payload[:end])] * 2)


def test_events_with_fields_of_another_kind_come_to_what_they_come_to_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a group, which protobuf skips
    event = encoded(100, {"loss": [1.0, 2.0]})
    odd = EncodedEvent("metrics", event.payload + b"\x7b\x7c")
    monkeypatch.setattr(projection, "_MANY_BYTES", 0)
    assert projection.apply_events(RUN, [odd] * 2) == projection.apply_event(RUN, event)
