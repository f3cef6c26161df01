"""The codec of run events: encoded once, in the trainer, and passed on as the same bytes.

What comes later is appended: the server's seq (a field appended to a message is still that message),
and the frame that makes a stored event an element of `WatchRunResponse.events`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from lab_rpc.v1 import config_pb2, event_pb2
from lab_server.messages import wire
from lab_server.messages.columns import Column, encode_columns, halves
from lab_server.model.run import Run, RunState

if TYPE_CHECKING:
    from lab_core.configs import PlainValue

MAX_METRICS_BYTES: Final = 512 << 10
"""About the size at which metrics are split into several events; clients take messages up to 4 MiB."""

MAX_LOG_BYTES: Final = 256 << 10
MAX_LINE_CHARS: Final = 16 << 10

STATES: Final[Mapping[RunState, event_pb2.RunState.ValueType]] = {
    state: event_pb2.RunState.Value(f"RUN_STATE_{state.value}") for state in RunState
}
"""Our states to those of the wire."""

_STATES_OF_WIRE: Final = {number: state for state, number in STATES.items()}

_LOG_LEVELS: Final[Mapping[str, event_pb2.LogLevel.ValueType]] = {
    "": event_pb2.LOG_LEVEL_UNSPECIFIED,
    "DEBUG": event_pb2.LOG_LEVEL_DEBUG,
    "INFO": event_pb2.LOG_LEVEL_INFO,
    "WARNING": event_pb2.LOG_LEVEL_WARNING,
    "ERROR": event_pb2.LOG_LEVEL_ERROR,
}

_ORIGINS: Final[Mapping[str, config_pb2.ValueOrigin.ValueType]] = {
    "default": config_pb2.VALUE_ORIGIN_DEFAULT,
    "override": config_pb2.VALUE_ORIGIN_OVERRIDE,
    "option": config_pb2.VALUE_ORIGIN_OPTION,
    "computed": config_pb2.VALUE_ORIGIN_COMPUTED,
}

_FIELDS: Final = event_pb2.RunEvent.DESCRIPTOR.fields_by_name
_KINDS: Final = {
    f.number: f.name for f in event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
}
KINDS: Final = frozenset(_KINDS.values())
"""The names of the kinds of events: "state", "metrics", ..."""

_TAG_SEQ: Final = wire.tag(_FIELDS["seq"].number, wire.VARINT)
_TAG_ATTEMPT: Final = wire.tag(_FIELDS["attempt"].number, wire.VARINT)
_TAG_TIME: Final = wire.tag(_FIELDS["time_unix_ns"].number, wire.VARINT)
_TAGS_OF_KINDS: Final = {name: wire.tag(number, wire.BYTES) for number, name in _KINDS.items()}
_TAG_EVENTS: Final = wire.tag(1, wire.BYTES)  # of WatchRunResponse; a test holds it to the proto


class PlanItemLike(Protocol):
    """What `encode_config` needs of an item of a plan of lab_core.configs."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> PlainValue: ...
    @property
    def origin(self) -> str: ...
    @property
    def option(self) -> str | None: ...
    @property
    def other_options(self) -> Sequence[str]: ...
    @property
    def is_hyperparam(self) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True)
class StateFact:
    """What a state event says."""

    state: RunState
    reason: str
    traceback: str


# ---- encoding


def encode_state(
    attempt: int, time_ns: int, state: RunState, reason: str = "", traceback: str = ""
) -> bytes:
    """Encode a change of the run's state."""
    change = event_pb2.StateChange(
        state=STATES[state], reason=wire.text_of(reason), traceback=wire.text_of(traceback)
    )
    return _event(attempt, time_ns, "state", change.SerializeToString())


def encode_metrics(attempt: int, time_ns: int, columns: Sequence[Column]) -> list[bytes]:
    """Encode measured scalars: one event, or several when one would be too big for a message.

    Args:
        columns: for each metric its steps and as many values, in the order they were measured. A
            step's metrics stay in one event as long as the event has more than one step.
    """
    columns = [column for column in columns if len(column.steps)]
    if not columns:
        return []
    # a step takes up to 10 bytes, a value 8, its row up to 5
    size = sum(24 * len(column.steps) + len(column.name) + 16 for column in columns)
    if size > MAX_METRICS_BYTES:
        parts = halves(columns)
        if parts is not None:
            return [payload for part in parts for payload in encode_metrics(attempt, time_ns, part)]
    return [_event(attempt, time_ns, "metrics", encode_columns(columns))]


def encode_log(attempt: int, time_ns: int, level: str, lines: Iterable[str]) -> list[bytes]:
    """Encode log lines, in as many events as their size needs; very long lines are cut.

    Args:
        level: "DEBUG", "INFO", "WARNING", "ERROR", or "" for what the experiment printed.
    """
    return [
        _event(
            attempt,
            time_ns,
            "log",
            event_pb2.Log(level=_LOG_LEVELS[level], lines=group).SerializeToString(),
        )
        for group in _line_groups(lines)
    ]


def encode_progress(
    attempt: int, time_ns: int, step: int, total_steps: int = 0, steps_per_second: float = 0.0
) -> bytes:
    """Encode how far the run is."""
    progress = event_pb2.Progress(
        step=step, total_steps=total_steps, steps_per_second=steps_per_second
    )
    return _event(attempt, time_ns, "progress", progress.SerializeToString())


def encode_checkpoint(
    attempt: int, time_ns: int, step: int, size_bytes: int = 0, damage: str = ""
) -> bytes:
    """Encode that a checkpoint is complete, or, with damage, that it was passed over."""
    checkpoint = event_pb2.Checkpoint(step=step, size_bytes=size_bytes, damage=wire.text_of(damage))
    return _event(attempt, time_ns, "checkpoint", checkpoint.SerializeToString())


def encode_truncate(
    attempt: int, time_ns: int, after_step: int, checkpoint_step: int | None = None
) -> bytes:
    """Encode that what was measured after a step no longer counts: the run resumed, or began anew."""
    truncate = event_pb2.Truncate(after_step=after_step, checkpoint_step=checkpoint_step)
    return _event(attempt, time_ns, "truncate", truncate.SerializeToString())


def encode_config(attempt: int, time_ns: int, items: Iterable[PlanItemLike]) -> bytes:
    """Encode the configs as the trainer resolved them."""
    config = event_pb2.Config(items=map(plan_item, items))
    return _event(attempt, time_ns, "config", config.SerializeToString())


def encode_artifact(attempt: int, time_ns: int, path: str, size_bytes: int) -> bytes:
    """Encode that a file was added to the run's folder."""
    artifact = event_pb2.Artifact(path=wire.text_of(path), size_bytes=size_bytes)
    return _event(attempt, time_ns, "artifact", artifact.SerializeToString())


def with_seq(payload: bytes, seq: int) -> bytes:
    """Return the event with its seq, the rest of the bytes as they were."""
    return payload + _TAG_SEQ + wire.varint(seq)


def frame(payload: bytes) -> bytes:
    """Return the event as an element of `events` in an encoded WatchRunResponse."""
    return wire.message(_TAG_EVENTS, payload)


def plan_item(item: PlanItemLike) -> config_pb2.PlanItem:
    """Return a plan's item as a message."""
    message = config_pb2.PlanItem(
        key=item.key,
        origin=_ORIGINS[item.origin],
        option=item.option or "",
        other_options=item.other_options,
        is_hyperparam=item.is_hyperparam,
    )
    if item.value is not None:
        message.value.CopyFrom(plain_value(item.value))
    return message


def plain_value(value: PlainValue) -> config_pb2.Value:
    """Return a plain value as a message, with its type."""
    match value:
        case None:
            return config_pb2.Value()
        case bool():
            return config_pb2.Value(bool_value=value)
        case int():
            return config_pb2.Value(int_value=value)
        case float():
            return config_pb2.Value(double_value=value)
        case str():
            return config_pb2.Value(string_value=wire.text_of(value))
        case _:
            values = config_pb2.ListValue(values=map(plain_value, value))
            return config_pb2.Value(list_value=values)


# ---- decoding


def kind(payload: bytes) -> str:
    """Return which kind of event it is, without decoding it; "" for one we do not know."""
    for number, _ in wire.fields(payload):
        if number in _KINDS:
            return _KINDS[number]
    return ""


def decode(payload: bytes) -> event_pb2.RunEvent:
    """Decode an event."""
    return event_pb2.RunEvent.FromString(payload)


def decode_state(payload: bytes) -> StateFact | None:
    """Return what a state event says, None for an event of another kind."""
    if kind(payload) != "state":
        return None
    change = decode(payload).state
    return StateFact(_STATES_OF_WIRE[change.state], change.reason, change.traceback)


def project(run: Run, payload: bytes) -> Run:
    """Return the run's row after an event: step, last metrics, progress, checkpoint.

    States are the supervisor's. After a truncate the last values stay until they are measured again,
    unless the run began anew.
    """
    event = decode(payload)
    match event.WhichOneof("kind"):
        case "metrics":
            metrics = dict(run.metrics)
            for column in event.metrics.columns:
                if column.values:
                    metrics[column.name] = column.values[-1]
            step = event.metrics.steps[-1] if event.metrics.steps else 0
            return dataclasses.replace(run, metrics=metrics, step=max(run.step, step))
        case "progress":
            progress = event.progress
            return dataclasses.replace(
                run,
                step=max(run.step, progress.step),
                total_steps=progress.total_steps or run.total_steps,
                steps_per_second=progress.steps_per_second,
            )
        case "checkpoint" if not event.checkpoint.damage:
            return dataclasses.replace(run, checkpoint_step=event.checkpoint.step)
        case "truncate":
            truncate = event.truncate
            at = truncate.checkpoint_step if truncate.HasField("checkpoint_step") else None
            return dataclasses.replace(
                run,
                step=min(run.step, at or 0),
                metrics=run.metrics if truncate.after_step >= 0 else {},
                checkpoint_step=at,
            )
        case _:
            return run


def _event(attempt: int, time_ns: int, name: str, body: bytes) -> bytes:
    head = _TAG_ATTEMPT + wire.varint(attempt) + _TAG_TIME + wire.varint(time_ns)
    return head + wire.message(_TAGS_OF_KINDS[name], body)


def _line_groups(lines: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for raw in lines:
        line = wire.text_of(raw, MAX_LINE_CHARS)
        size += len(line) + 4
        if group and size > MAX_LOG_BYTES:
            yield group
            group, size = [], len(line) + 4
        group.append(line)
    if group:
        yield group
