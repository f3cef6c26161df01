"""What the records of a spool mean for their run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lab_server.files.spool import Record
from lab_server.messages import events
from lab_server.messages.events import DecodedState, EncodedEvent
from lab_server.messages.projection import apply_events
from lab_server.model.run import Run, RunState


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended, once none of its processes is left.

    Attributes:
        outcome: the terminal state that the trainer reported; None when it died before that.
        event: the event with the outcome.
        end_offset: the spool's offset after that event.
        cause: why the trainer ended, as a clause.
        is_forced: the server ended it by signals.
        lines: events with what was printed and not sent; they come before the one of the end.
    """

    outcome: DecodedState | None = None
    event: EncodedEvent | None = None
    end_offset: int = 0
    cause: str = ""
    is_forced: bool = False
    lines: Sequence[EncodedEvent] = ()


@dataclass(frozen=True, slots=True)
class NewEvents:
    """What was read from a spool.

    Attributes:
        events: to add to the log.
        run: the row after these events.
        result: how the attempt ended, if the trainer has reported it; that event is not among `events`.
    """

    events: Sequence[EncodedEvent]
    run: Run
    result: AttemptResult | None = None


def read_records(run: Run, records: Iterable[Record]) -> NewEvents:
    """Return the events in records that come after all that the run's row knows of."""
    new_events: list[EncodedEvent] = []
    end_offset = run.spool_offset
    result = None
    for record in records:
        event = events.recognise(record.payload)
        state_change = events.decode_state(event.payload) if event.kind == "state" else None
        if state_change is not None and state_change.state.is_terminal:
            result = AttemptResult(state_change, event, record.end_offset)
            break
        end_offset = record.end_offset
        if state_change is not None:
            if run.state is not RunState.STARTING:
                continue  # asked to stop before it began: it does not count as running
            began = run.start_time_ns or time.time_ns()
            run = replace(run, state=state_change.state, reason="", start_time_ns=began)
        new_events.append(event)
        if event.kind == "provenance":
            seq = run.last_seq + len(new_events)
            digest = run.code_digest or events.decode(event.payload).provenance.digest
            run = replace(run, provenance_seq=seq, code_digest=digest)
    run = apply_events(run, new_events, spool_offset=end_offset)
    return NewEvents(new_events, run, result)
