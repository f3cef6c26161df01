"""The codec: bytes written once, which any reader of the protos understands."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_core.configs import PlainValue
from lab_rpc.v1 import config_pb2, event_pb2, training_service_pb2
from lab_server.messages import events
from lab_server.messages.events import DecodedState, EncodedEvent
from lab_server.messages.projection import apply_event, apply_events
from lab_server.messages.values import value_to_proto
from lab_server.model.log_level import LogLevel, LogLine
from lab_server.model.run import Run, RunRequest, RunState

RUN = Run("r1", RunRequest("mnist"))
CLIENT_MESSAGE_BYTES = 4 << 20


@dataclasses.dataclass
class Column:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


def points(encoded: list[EncodedEvent]) -> list[tuple[str, int, float]]:
    """Return (name, step, value) as a reader sees them who knows nothing but the protos."""
    found = []
    for event in encoded:
        metrics = event_pb2.RunEvent.FromString(event.payload).metrics
        assert list(metrics.steps) == sorted(set(metrics.steps))
        for column in metrics.columns:
            rows = column.rows or range(len(metrics.steps))
            assert len(rows) == len(column.values)
            found += [
                (column.name, metrics.steps[r], v) for r, v in zip(rows, column.values, strict=True)
            ]
    return found


def decoded(event: EncodedEvent) -> event_pb2.RunEvent:
    return events.decode(event.payload)


def expected(columns: list[Column]) -> list[tuple[str, int, float]]:
    return [(c.name, s, v) for c in columns for s, v in zip(c.steps, c.values, strict=True)]


def test_every_state_has_a_name_on_the_wire() -> None:
    assert {event_pb2.RunState.Name(wire) for wire in events.STATES.values()} == {
        value.name
        for value in event_pb2.DESCRIPTOR.enum_types_by_name["RunState"].values
        if value.number
    }


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (events.encode_state(3, 9, RunState.FAILED, "why", "trace\nback"), "state"),
        (events.encode_metrics(3, 9, [Column("loss", [1], [0.5])])[0], "metrics"),
        (events.encode_log(3, 9, ["one", "two"])[0], "log"),
        (events.encode_progress(3, 9, 5, 10, 2.5), "progress"),
        (events.encode_checkpoint(3, 9, 5, 1000), "checkpoint"),
        (events.encode_truncate(3, 9, 0), "truncate"),
        (events.encode_config(3, 9, []), "config"),
    ],
)
def test_each_kind_tells_its_attempt_time_seq_and_kind(event: EncodedEvent, kind: str) -> None:
    message = events.decode(events.with_seq(event.payload, 2**40))

    assert (message.seq, message.attempt, message.time_unix_ns) == (2**40, 3, 9)
    assert message.WhichOneof("kind") == event.kind == kind
    assert events.recognise(event.payload) == event


def test_what_was_encoded_is_what_is_read() -> None:
    state = events.encode_state(1, 2, RunState.FAILED, "why", "trace")
    log = decoded(events.encode_log(1, 2, ["one", ""])[0]).log
    progress = decoded(events.encode_progress(1, 2, 5, 10, 2.5)).progress
    checkpoint = decoded(events.encode_checkpoint(1, 2, 5, 100, "torn")).checkpoint

    assert events.decode_state(state.payload) == DecodedState(RunState.FAILED, "why", "trace")
    assert list(log.lines) == ["one", ""]
    assert (progress.step, progress.total_steps, progress.steps_per_second) == (5, 10, 2.5)
    assert (checkpoint.step, checkpoint.size_bytes, checkpoint.damage) == (5, 100, "torn")
    assert decoded(events.encode_truncate(1, 2, 3)).truncate.after_step == 3


def test_lines_keep_their_order_and_levels_in_an_event_for_each_stretch() -> None:
    lines = [LogLine("a"), LogLine("b"), LogLine("c", LogLevel.STDERR), LogLine("d")]
    told = [decoded(event).log for event in events.encode_lines(1, 2, lines)]
    stderr = event_pb2.LOG_LEVEL_STDERR
    assert [(log.level, list(log.lines)) for log in told] == [
        (0, ["a", "b"]),
        (stderr, ["c"]),
        (0, ["d"]),
    ]


def test_each_level_has_the_number_of_the_wire() -> None:
    numbers = {name.removeprefix("LOG_LEVEL_"): n for name, n in event_pb2.LogLevel.items()}
    numbers["STDOUT"] = numbers.pop("UNSPECIFIED")
    assert numbers == {level.name: level.value for level in LogLevel}


def test_the_bytes_in_a_response_are_those_that_the_trainer_wrote() -> None:
    payloads = [events.encode_progress(1, 2, step).payload for step in range(3)]
    stored = [events.with_seq(payload, seq) for seq, payload in enumerate(payloads, 1)]

    response = training_service_pb2.WatchRunResponse.FromString(b"".join(map(events.frame, stored)))

    assert [event.seq for event in response.events] == [1, 2, 3]
    assert [event.progress.step for event in response.events] == [0, 1, 2]
    assert all(new.startswith(old) for new, old in zip(stored, payloads, strict=True))


COLUMNS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
        st.lists(
            st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)), max_size=8
        ),
    ),
    max_size=4,
).map(lambda cols: [Column(n, [s for s, _ in ps], [v for _, v in ps]) for n, ps in cols])


@pytest.mark.slow
@settings(deadline=None)
@given(columns=COLUMNS)
def test_all_points_survive_whatever_their_steps(columns: list[Column]) -> None:
    assert points(events.encode_metrics(1, 2, columns)) == expected(columns)


def test_metrics_measured_together_need_no_rows() -> None:
    steps = [1, 2, 5]
    columns = [Column("a", steps, [1.0, 2.0, 3.0]), Column("b", steps, array("d", [4, 5, 6]))]
    (event,) = events.encode_metrics(1, 2, columns)

    metrics = decoded(event).metrics

    assert list(metrics.steps) == steps
    assert [list(column.rows) for column in metrics.columns] == [[], []]


def test_nan_and_infinities_are_kept() -> None:
    (event,) = events.encode_metrics(
        1, 2, [Column("a", [1, 2, 3], [math.nan, math.inf, -math.inf])]
    )

    values = decoded(event).metrics.columns[0].values

    assert math.isnan(values[0])
    assert list(values[1:]) == [math.inf, -math.inf]


def test_nothing_measured_is_no_event() -> None:
    assert events.encode_metrics(1, 2, []) == []
    assert events.encode_metrics(1, 2, [Column("a", [], [])]) == []
    assert events.encode_log(1, 2, []) == []


@settings(max_examples=3, deadline=None)
@given(num_steps=st.sampled_from([1, 40_000]), num_names=st.sampled_from([1, 3, 20_000]))
def test_big_batches_are_split_below_the_size_of_a_message(num_steps: int, num_names: int) -> None:
    if num_steps * num_names > 200_000:
        num_names = 3
    columns = [
        Column(f"metric_{i}", range(num_steps), [float(i + s) for s in range(num_steps)])
        for i in range(num_names)
    ]

    split = events.encode_metrics(1, 2, columns)

    assert max(len(event.payload) for event in split) < CLIENT_MESSAGE_BYTES // 4
    assert sorted(points(split)) == sorted(expected(columns))


def test_a_split_batch_keeps_the_metrics_of_a_step_together() -> None:
    steps = list(range(60_000))
    columns = [Column(name, steps, [0.0] * len(steps)) for name in "ab"]
    split = events.encode_metrics(1, 2, columns)
    all_steps = [set(decoded(event).metrics.steps) for event in split]

    assert len(split) > 1
    assert sum(map(len, all_steps)) == len(steps)


def test_the_metrics_of_one_step_stay_together_as_long_as_a_message_takes_them() -> None:
    def one_step(num_names: int) -> list[Column]:
        return [Column(f"metric_{i:05}", [1], [0.5]) for i in range(num_names)]

    assert len(events.encode_metrics(1, 2, one_step(5_000))) == 1
    assert len(events.encode_metrics(1, 2, one_step(30_000))) > 1


def test_events_are_small_as_a_stalled_reader_costs_one_of_them() -> None:
    columns = [Column(name, list(range(10_000)), [0.5] * 10_000) for name in ("a", "b")]
    told = events.encode_metrics(1, 2, columns) + events.encode_log(1, 2, ["x" * 1000] * 1000)
    assert max(len(event.payload) for event in told) < 32 << 10


def test_very_long_logs_are_split_and_very_long_lines_cut() -> None:
    split = events.encode_log(1, 2, ["x" * 50_000_000, *["y" * 1000] * 1000])
    lines = [line for event in split for line in decoded(event).log.lines]

    assert max(len(event.payload) for event in split) < CLIENT_MESSAGE_BYTES
    assert lines[0].startswith("xxx")
    assert "more characters]" in lines[0]
    assert lines[1:] == ["y" * 1000] * 1000


def test_text_that_is_no_unicode_is_sent_all_the_same() -> None:
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")

    assert decoded(events.encode_log(1, 2, [broken])[0]).log.lines == ["caf?"]
    assert decoded(events.encode_state(1, 2, RunState.FAILED, broken)).state.reason == "caf?"
    (event,) = events.encode_metrics(1, 2, [Column(broken, [1], [1.0])])
    assert decoded(event).metrics.columns[0].name == "caf?"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (True, "bool_value"),
        (1, "int_value"),
        (1.0, "double_value"),
        ("x", "string_value"),
        ([1, [2.0, None]], "list_value"),
    ],
)
def test_a_plain_value_keeps_its_type(value: PlainValue, kind: str | None) -> None:
    message = value_to_proto(value)

    assert message.WhichOneof("kind") == kind
    if isinstance(value, list):
        inner = message.list_value.values[1].list_value.values
        assert [v.WhichOneof("kind") for v in inner] == ["double_value", None]


def test_a_plan_item_tells_its_origin() -> None:
    @dataclasses.dataclass
    class Item:
        key = "optimizer"
        value: PlainValue = None
        origin = "option"
        option = "sgd"
        other_options = ("adam",)
        is_hyperparam = True

    message = decoded(events.encode_config(1, 2, [Item()])).config.items[0]

    assert message.origin == config_pb2.VALUE_ORIGIN_OPTION
    assert (message.key, message.option, list(message.other_options)) == (
        "optimizer",
        "sgd",
        ["adam"],
    )
    assert not message.HasField("value")


def test_a_kind_of_a_later_version_is_passed_over() -> None:
    payload = b"\x10\x01" + b"\xfa\x3f\x02hi" + b"\x81\x40" + b"8" * 8 + b"\x85\x40" + b"4" * 4

    event = events.recognise(payload)

    assert event == EncodedEvent("", payload)
    assert apply_event(RUN, event) == RUN


def test_the_row_follows_metrics_and_progress() -> None:
    (metrics,) = events.encode_metrics(
        1, 2, [Column("a", [1, 2], [0.5, 0.25]), Column("b", [1], [9.0])]
    )
    run = apply_event(RUN, metrics)
    run = apply_event(run, events.encode_progress(1, 2, 4, 10, 3.5))
    run = apply_event(run, events.encode_checkpoint(1, 2, 3))
    run = apply_event(run, events.encode_checkpoint(1, 2, 2, damage="torn"))

    assert run == dataclasses.replace(
        RUN,
        step=4,
        metrics={"a": 0.25, "b": 9.0},
        extremes={"a": (0.25, 0.5), "b": (9.0, 9.0)},
        total_steps=10,
        steps_per_second=3.5,
        checkpoint_step=3,
    )


def test_a_truncate_takes_the_row_back_to_the_checkpoint() -> None:
    run = dataclasses.replace(RUN, step=9, metrics={"a": 1.0}, checkpoint_step=8)

    at_5 = apply_event(run, events.encode_truncate(2, 3, 4, 5))
    anew = apply_event(run, events.encode_truncate(2, 3, -1))

    assert (at_5.step, at_5.checkpoint_step, at_5.metrics) == (5, 5, {"a": 1.0})
    assert (anew.step, anew.checkpoint_step, anew.metrics) == (0, None, {})


def test_many_events_change_the_row_as_one_after_the_other() -> None:
    log = [
        *events.encode_metrics(1, 2, [Column("a", [1, 2], [0.5, 0.25]), Column("b", [1], [9.0])]),
        *events.encode_metrics(1, 2, [Column("a", [3], [0.125])]),
        events.encode_progress(1, 2, 4, 10, 3.5),
        events.encode_checkpoint(1, 2, 3),
        *events.encode_log(1, 2, ["x"]),
        *events.encode_metrics(1, 2, [Column("a", [8], [7.0])]),
        events.encode_truncate(2, 3, -1),
        *events.encode_metrics(2, 2, [Column("c", [5, 4], [1.0, 2.0])]),
    ]

    for start in range(len(log)):
        run = RUN
        for end, event in enumerate(log[start:], start + 1):
            run = apply_event(run, event)
            assert apply_events(RUN, log[start:end]) == run
    assert (run.metrics, run.step) == ({"c": 2.0}, 5)
    assert apply_events(RUN, []) == RUN


def test_what_does_not_concern_the_row_leaves_it_alone() -> None:
    for event in (
        events.encode_state(1, 2, RunState.COMPLETED),
        events.encode_log(1, 2, ["x"])[0],
    ):
        assert apply_event(RUN, event) == RUN
