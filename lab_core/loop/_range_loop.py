"""The loop over values that are the global step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab_core import tracker
from lab_core._interrupts import catch_interrupts
from lab_core.loop._loop import Loop


class RangeLoop:
    """One use of ``loop.loop``."""

    name = "loop"

    def __init__(self, state: Loop, values: range) -> None:
        self._state = state
        self._values = values
        self._value = values.start

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return the value to go on with."""
        return {"value": self._value + (self._values.step if is_innermost else 0)}

    def run(self) -> Iterator[int]:
        """Yield each value, from the one on that a resumed run is at."""
        state, values, place = self._state, self._values, self._state.place
        if place.skip_finished(self.name):
            return
        ended = place.pass_ended(self.name, values.stop)
        if place.unreached and ended is not None:
            return
        resumed = place.pending(self.name)
        first = values.start
        if resumed is not None:
            first = resumed["value"]
        elif ended is not None:
            first = ended["next"]
        values = range(first, values.stop, values.step)
        state.total_steps = values.stop
        self._value = next_value = first
        try:
            with catch_interrupts(state), state.iterating(self):
                for value in values:
                    if state.is_ending:
                        break
                    place.start_iteration()
                    self._value = next_value = value
                    state.step = max(state.step, value)
                    yield value
                    tracker.settle()  # metrics of the body belong to this value, not to the next
                    next_value = value + values.step
                    state.step = max(state.step, min(next_value, values.stop))
                    state.boundary()
                state.end_loop()
        finally:
            place.note_end(self.name, {"next": next_value, "end": values.stop})
