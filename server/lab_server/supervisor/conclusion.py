"""What follows from how an attempt ended: another attempt, or the run's end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.agent import AGENT_LEFT, LEASE_OVER
from lab_server.model.launch import DISK_FULL
from lab_server.model.run import Run, RunState
from lab_server.supervisor.attempt import NOT_STARTED
from lab_server.supervisor.records import AttemptResult

INTERRUPTED: Final = "the server was shut down"
_NOT_ITS_FAULT: Final = (INTERRUPTED, AGENT_LEFT, LEASE_OVER, NOT_STARTED + AGENT_LEFT)


def conclude(run: Run, result: AttemptResult, max_retries: int) -> tuple[Run, EncodedEvent]:
    """Return a run after an attempt, and the event that tells of it.

    Args:
        run: in the attempt that has ended.
        result: how it has.
        max_retries: how often the run may be tried again, where it does not say so itself.
    """
    run = replace(run, process=None, slot="", steps_per_second=0.0)
    outcome = result.outcome
    # a failure that the server's own signals caused, in a data loader, say, is not the run's own outcome
    is_own = outcome is not None and not (result.is_forced and outcome.state is RunState.FAILED)
    if outcome is not None and result.event is not None and is_own:
        run = replace(run, spool_offset=result.end_offset)
        if outcome.state is not RunState.STOPPED:
            return _ended(run, outcome.state, outcome.reason, result.event)
        reason = outcome.reason or "the experiment stopped itself"
        if run.is_stop_requested:
            reason = run.reason
        event = events.encode_state(run.attempt, _time_ns(result.event), RunState.STOPPED, reason)
        return _ended(run, RunState.STOPPED, reason, event)
    if run.is_stop_requested:
        return _ended(run, RunState.STOPPED, f"{run.reason}; {result.cause}")
    if result.cause in _NOT_ITS_FAULT:
        return _queued_again(run, result.cause)
    if result.cause == DISK_FULL:
        return _ended(run, RunState.FAILED, result.cause)
    allowed = run.request.options.max_retries
    max_retries = max_retries if allowed is None else allowed
    died = f"the trainer of attempt {run.attempt} died: {result.cause}"
    if run.num_retries >= max_retries:
        tried = f"; gave up after {max_retries + 1} attempts" if max_retries else ""
        return _ended(run, RunState.FAILED, died + tried)
    retries = run.num_retries + 1
    again = f"{died}; retry {retries} of {max_retries}"
    return _queued_again(replace(run, num_retries=retries), again)


def _queued_again(run: Run, reason: str) -> tuple[Run, EncodedEvent]:
    event = events.encode_state(run.attempt, time.time_ns(), RunState.QUEUED, reason)
    return replace(run, state=RunState.QUEUED, reason=reason), event


def _ended(
    run: Run, state: RunState, reason: str, event: EncodedEvent | None = None
) -> tuple[Run, EncodedEvent]:
    event = event or events.encode_state(run.attempt, time.time_ns(), state, reason)
    # the trainer's own time: there may have been no server when it ended
    end_time_ns = _time_ns(event)
    return replace(run, state=state, reason=reason, end_time_ns=end_time_ns, queue_key=0), event


def _time_ns(event: EncodedEvent) -> int:
    return events.decode(event.payload).time_unix_ns
