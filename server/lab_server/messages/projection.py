"""What an event of the log means for its run's row."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from lab_rpc.v1 import event_pb2
from lab_server.messages.events import EncodedEvent, decode
from lab_server.messages.extremes import merged, with_columns
from lab_server.model.run import Run

_MANY_BYTES: Final = 64 << 10  # of a spool that is behind; what comes live is less


def apply_events(run: Run, events: Iterable[EncodedEvent], **changes: Any) -> Run:
    """Return the run's row after events, in their order, and some other changes; see `apply_event`."""
    measured: dict[str, Any] = {}  # applied with what comes last: a new row takes a while to make
    for kind, group in itertools.groupby(events, key=attrgetter("kind")):
        if measured:
            run, measured = replace(run, **measured), {}
        if kind == "metrics":
            measured = _measured(run, group)
        else:
            for event in group:
                run = apply_event(run, event)
    return run.changed(**measured, **changes) if measured or changes else run


def apply_event(run: Run, event: EncodedEvent) -> Run:
    """Return the run's row after an event: step, last metrics, progress, checkpoint.

    States are the supervisor's. After a truncate the last values stay until they are measured again,
    unless the run began anew. So do the extremes, marked as stale: only the history tells them.
    """
    match event.kind:
        case "metrics":
            return replace(run, **_measured(run, (event,)))
        case "progress":
            progress = decode(event.payload).progress
            return replace(
                run,
                step=max(run.step, progress.step),
                total_steps=progress.total_steps or run.total_steps,
                steps_per_second=progress.steps_per_second,
            )
        case "checkpoint":
            checkpoint = decode(event.payload).checkpoint
            return run if checkpoint.damage else replace(run, checkpoint_step=checkpoint.step)
        case "truncate":
            truncate = decode(event.payload).truncate
            at = truncate.checkpoint_step if truncate.HasField("checkpoint_step") else None
            return replace(
                run,
                step=min(run.step, at or 0),
                metrics=run.metrics if truncate.after_step >= 0 else {},
                extremes=run.extremes if truncate.after_step >= 0 else {},
                has_stale_extremes=truncate.after_step >= 0 and bool(run.extremes),
                checkpoint_step=at,
            )
        case _:
            return run


def _measured(run: Run, events: Iterable[EncodedEvent]) -> dict[str, Any]:
    # a spool that is behind has a hundred thousand: one new row for all of them
    payloads = [event.payload for event in events]
    last, step, extremes = dict(run.metrics), run.step, run.extremes
    indices: Iterable[int] = range(len(payloads))
    at: dict[str, int] = {}  # of each metric the index of the event with its last value
    if len(payloads) > 1 and sum(map(len, payloads)) >= _MANY_BYTES:
        from lab_server.messages import alike  # numpy takes 0.1 s: not before it is worth it

        found = alike.find(payloads)
        indices, step, extremes = (
            found.others,
            max(step, found.step),
            merged(extremes, found.extremes),
        )
        for name, (index, value) in found.last.items():
            at[name], last[name] = index, value

    def columns() -> Iterator[event_pb2.MetricColumn]:
        nonlocal step
        for index in indices:
            measured = decode(payloads[index]).metrics
            if measured.steps:
                step = max(step, measured.steps[-1])
            for column in measured.columns:
                if values := column.values:
                    if index >= at.get(column.name, -1):
                        at[column.name], last[column.name] = index, values[-1]
                    yield column

    extremes = with_columns(extremes, columns())
    return {"metrics": last, "step": step, "extremes": extremes}
