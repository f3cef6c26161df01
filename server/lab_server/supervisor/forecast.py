"""When runs will end, and when the turn of those that wait comes: from the speed of what trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab_server.model.run import Run, RunState
from lab_server.model.slot import Slot
from lab_server.supervisor.queue import wants_of


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a run's future.

    Attributes:
        ends_in_s: seconds until it ends, None when nobody knows.
        starts_in_s: seconds until it starts, at most; None when it does not wait, or nobody knows.
        reason: why, or why it is not known.
    """

    ends_in_s: float | None = None
    starts_in_s: float | None = None
    reason: str = ""


@dataclass(slots=True)
class _Place:
    """A slot as the runs that wait see it.

    Attributes:
        free_in_s: seconds until it is free, None when nobody knows.
        after: what has it until then, in words; "" when it is free.
    """

    slot: Slot
    free_in_s: float | None
    after: str


def forecasts(live: Iterable[Run], slots: Sequence[tuple[Slot, str]]) -> Mapping[str, Forecast]:
    """Return the forecasts of the runs that wait or train, by their ids.

    Args:
        live: all of these runs; those that wait in the order of the queue.
        slots: every slot with the id of the run that has it, "" when it is free.
    """
    runs = {run.id: run for run in live}
    found = {run.id: _of_training(run) for run in runs.values() if run.state is not RunState.QUEUED}
    places = [_place(slot, run_id, found) for slot, run_id in slots]
    for run in runs.values():
        if run.state is RunState.QUEUED:
            found[run.id] = _of_waiting(run, places)
    return found


def duration(seconds: float) -> str:
    """Write a duration in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _of_training(run: Run) -> Forecast:
    if run.state is not RunState.RUNNING:
        return Forecast(reason=f"it is {run.state.word}")
    if not run.total_steps and not run.until_step:
        return Forecast(reason="it does not say how many steps it has")
    if not run.steps_per_second:
        return Forecast(reason="its speed is not known yet")
    seconds = _seconds_left(run)
    return Forecast(ends_in_s=seconds, reason=f"at {run.steps_per_second:.3g} steps a second")


def _seconds_left(run: Run) -> float | None:
    """Return how long a run trains from its step to its end, None when nobody knows."""
    ends = [step for step in (run.total_steps, run.until_step) if step]
    if not ends or not run.steps_per_second:
        return None
    return max(0, min(ends) - run.step) / run.steps_per_second


def _place(slot: Slot, run_id: str, found: Mapping[str, Forecast]) -> _Place:
    if not run_id:
        return _Place(slot, 0.0, "")
    seconds = found[run_id].ends_in_s if run_id in found else None
    if seconds is None:
        return _Place(slot, None, f"after {run_id}, and how long it takes is not known")
    return _Place(slot, seconds, f"after {run_id}, which has {duration(seconds)} to go")


def _of_waiting(run: Run, places: list[_Place]) -> Forecast:
    wants = wants_of(run)
    fitting = [place for place in places if wants.fit(place.slot)]
    known = [place for place in fitting if place.free_in_s is not None]
    if not fitting:
        return Forecast(reason="there is no slot now that it can have")
    if not known:
        first = fitting[0]
        reason, first.after = first.after, _after_unknown(run)
        return Forecast(reason=reason)
    place = min(known, key=lambda known_place: known_place.free_in_s or 0.0)
    start = place.free_in_s or 0.0
    reason = place.after or "a slot is free"
    if len(known) < len(fitting):
        reason += ", or earlier: when other slots are free is not known"
    seconds = _seconds_left(run)
    end = None if seconds is None else start + seconds
    place.free_in_s = end
    place.after = (
        _after_unknown(run)
        if end is None
        else f"after {run.id}, which waits before it and takes {duration(end - start)}"
    )
    return Forecast(ends_in_s=end, starts_in_s=start, reason=reason)


def _after_unknown(run: Run) -> str:
    return f"after {run.id}, which waits before it, and when that ends is not known"
