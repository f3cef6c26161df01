"""The codec of run events: encoded once, in the trainer, and passed on as the same bytes.

What comes later is appended: the server's seq (a field appended to a message is still that message),
and the frame that makes a stored event an element of `WatchRunResponse.events`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from lab_rpc.v1 import event_pb2, provenance_pb2
from lab_server.messages import wire
from lab_server.messages.columns import Column, encode_columns, split
from lab_server.messages.values import PlanItemLike, plan_item_to_proto
from lab_server.model.log_level import LogLevel, LogLine
from lab_server.model.run import RunState

MAX_METRICS_BYTES: Final = 48 << 10
"""About the size at which metrics are split into events of fewer steps: a stalled reader costs an event."""

MAX_STEP_BYTES: Final = 512 << 10
"""About the size at which a step's metrics are split into several events; clients take messages up to 4 MiB."""

MAX_LOG_BYTES: Final = 16 << 10
MAX_LINE_CHARS: Final = 16 << 10

STATES: Final[Mapping[RunState, event_pb2.RunState.ValueType]] = {
    state: event_pb2.RunState.Value(f"RUN_STATE_{state.value}") for state in RunState
}
"""Our states to those of the wire."""

_LEVELS: Final[Mapping[LogLevel, event_pb2.LogLevel.ValueType]] = {
    level: event_pb2.LogLevel.Value(f"LOG_LEVEL_{level.name}")
    for level in LogLevel
    if level is not LogLevel.STDOUT
} | {LogLevel.STDOUT: event_pb2.LOG_LEVEL_UNSPECIFIED}

_STATES_OF_WIRE: Final = {number: state for state, number in STATES.items()}

_FIELDS: Final = event_pb2.RunEvent.DESCRIPTOR.fields_by_name
_KINDS: Final = {
    f.number: f.name for f in event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
}

_TAG_SEQ: Final = wire.tag(_FIELDS["seq"].number, wire.VARINT)
_TAG_ATTEMPT: Final = wire.tag(_FIELDS["attempt"].number, wire.VARINT)
_TAG_TIME: Final = wire.tag(_FIELDS["time_unix_ns"].number, wire.VARINT)
_TAGS_OF_KINDS: Final = {name: wire.tag(number, wire.BYTES) for number, name in _KINDS.items()}
_TAG_EVENTS: Final = wire.tag(1, wire.BYTES)  # of WatchRunResponse; a test holds it to the proto

# what `_event` writes before the kind's own bytes; its last group is the kind's tag
_VARINT: Final = rb"[\x80-\xff]*[\x00-\x7f]"
_HEAD: Final = re.compile(
    b"%b%b%b%b(%b)" % (re.escape(_TAG_ATTEMPT), _VARINT, re.escape(_TAG_TIME), _VARINT, _VARINT)
)
_KINDS_OF_TAGS: Final = {tag: name for name, tag in _TAGS_OF_KINDS.items()}


class EncodedEvent(NamedTuple):
    """An event as bytes. Its kind travels with it, so that nobody looks for it in the bytes again.

    A tuple, as a spool that is behind has a hundred thousand of them.

    Attributes:
        kind: the set field of RunEvent.kind: "state", "metrics", ...; "" for one we do not know.
        payload: an encoded RunEvent without seq.
    """

    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class DecodedState:
    """What an event of kind "state" says."""

    state: RunState
    reason: str
    traceback: str


# ---- encoding


def encode_state(
    attempt: int, time_ns: int, state: RunState, reason: str = "", traceback: str = ""
) -> EncodedEvent:
    """Encode a change of the run's state."""
    change = event_pb2.StateChange(
        state=STATES[state], reason=wire.text_of(reason), traceback=wire.text_of(traceback)
    )
    return _event(attempt, time_ns, "state", change.SerializeToString())


def encode_metrics(attempt: int, time_ns: int, columns: Sequence[Column]) -> list[EncodedEvent]:
    """Encode measured scalars: one event, or several when one would be too big for a message.

    Args:
        attempt: the run's attempt, from 1.
        time_ns: when they were measured, Unix time.
        columns: for each metric its steps and as many values, in the order they were measured. A
            step's metrics stay in one event as long as the event has more than one step.
    """
    columns = [column for column in columns if len(column.steps)]
    if not columns:
        return []
    return [
        _event(attempt, time_ns, "metrics", encode_columns(part))
        for part in split(columns, MAX_METRICS_BYTES, MAX_STEP_BYTES)
    ]


def encode_log(
    attempt: int, time_ns: int, lines: Iterable[str], level: LogLevel = LogLevel.STDOUT
) -> list[EncodedEvent]:
    """Encode log lines of one level, in as many events as their size needs; very long lines are cut."""
    number = _LEVELS[level]
    return [
        _event(
            attempt, time_ns, "log", event_pb2.Log(level=number, lines=group).SerializeToString()
        )
        for group in _line_groups(lines)
    ]


def encode_lines(attempt: int, time_ns: int, lines: Iterable[LogLine]) -> list[EncodedEvent]:
    """Encode log lines in their order, an event or more for each stretch of one level."""
    return [
        event
        for level, group in groupby(lines, key=lambda line: line.level)
        for event in encode_log(attempt, time_ns, (line.text for line in group), level)
    ]


def encode_progress(
    attempt: int, time_ns: int, step: int, total_steps: int = 0, steps_per_second: float = 0.0
) -> EncodedEvent:
    """Encode how far the run is."""
    progress = event_pb2.Progress(
        step=step, total_steps=total_steps, steps_per_second=steps_per_second
    )
    return _event(attempt, time_ns, "progress", progress.SerializeToString())


def encode_checkpoint(
    attempt: int, time_ns: int, step: int, size_bytes: int = 0, damage: str = ""
) -> EncodedEvent:
    """Encode that a checkpoint is complete, or, with damage, that it was skipped."""
    checkpoint = event_pb2.Checkpoint(step=step, size_bytes=size_bytes, damage=wire.text_of(damage))
    return _event(attempt, time_ns, "checkpoint", checkpoint.SerializeToString())


def encode_artifact(attempt: int, time_ns: int, path: str, size_bytes: int) -> EncodedEvent:
    """Encode that a file was added to the run's folder, by its path below that."""
    artifact = event_pb2.Artifact(path=wire.text_of(path), size_bytes=size_bytes)
    return _event(attempt, time_ns, "artifact", artifact.SerializeToString())


def encode_media(attempt: int, time_ns: int, items: Iterable[event_pb2.MediaItem]) -> EncodedEvent:
    """Encode images, texts, histograms and indexed values; see `messages.media` for their sizes."""
    return _event(attempt, time_ns, "media", event_pb2.Media(items=items).SerializeToString())


def encode_truncate(
    attempt: int, time_ns: int, after_step: int, checkpoint_step: int | None = None
) -> EncodedEvent:
    """Encode that what was measured after a step no longer counts: the run resumed, or began anew."""
    truncate = event_pb2.Truncate(after_step=after_step, checkpoint_step=checkpoint_step)
    return _event(attempt, time_ns, "truncate", truncate.SerializeToString())


def encode_config(attempt: int, time_ns: int, items: Iterable[PlanItemLike]) -> EncodedEvent:
    """Encode the configs as the trainer resolved them."""
    config = event_pb2.Config(items=map(plan_item_to_proto, items))
    return _event(attempt, time_ns, "config", config.SerializeToString())


def encode_provenance(
    attempt: int, time_ns: int, provenance: provenance_pb2.Provenance
) -> EncodedEvent:
    """Encode which code an attempt runs, and where."""
    return _event(attempt, time_ns, "provenance", provenance.SerializeToString())


def with_seq(payload: bytes, seq: int) -> bytes:
    """Return the event with its seq, the rest of the bytes as they were."""
    return payload + _TAG_SEQ + wire.varint(seq)


def frame(payload: bytes) -> bytes:
    """Return the event as an element of `events` in an encoded WatchRunResponse."""
    return wire.message(_TAG_EVENTS, payload)


# ---- decoding


def recognise(payload: bytes) -> EncodedEvent:
    """Return an event that was encoded elsewhere, with its kind."""
    head = _HEAD.match(payload)
    kind = _KINDS_OF_TAGS.get(head[1]) if head else None
    if kind is None:  # not encoded here, or of a later version
        kind = decode(payload).WhichOneof("kind") or ""
    return EncodedEvent(kind, payload)


def decode(payload: bytes) -> event_pb2.RunEvent:
    """Decode an event."""
    return event_pb2.RunEvent.FromString(payload)


def decode_state(payload: bytes) -> DecodedState:
    """Return what an event of kind "state" says."""
    change = decode(payload).state
    return DecodedState(_STATES_OF_WIRE[change.state], change.reason, change.traceback)


def _event(attempt: int, time_ns: int, kind: str, body: bytes) -> EncodedEvent:
    head = _TAG_ATTEMPT + wire.varint(attempt) + _TAG_TIME + wire.varint(time_ns)
    return EncodedEvent(kind, head + wire.message(_TAGS_OF_KINDS[kind], body))


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
