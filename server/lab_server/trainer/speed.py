"""How fast a run trains."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0
_MAX_LATENESS = 3.0


class Speed:
    """Steps per second over the last seconds, or the last two readings with a new step.

    Args:
        now: when training began or was taken up, in seconds of any clock.
        step: the step at which it did; what came before was not trained in this time.
    """

    def __init__(self, now: float, step: int) -> None:
        self._is_started = False
        self._changes = deque([(now, step)])

    def read(self, now: float, step: int) -> float:
        """Take a reading and return the speed; 0 before the first step, and when no more steps come.

        A run whose steps take longer than the window keeps its speed between them; one that is three
        times as late as it was has none.
        """
        changes = self._changes
        if not self._is_started and step == changes[0][1] and now > changes[0][0]:
            changes[0] = now, step  # what a run sets up before is not its steps' time
            return 0.0
        if step != changes[-1][1]:
            self._is_started = True
            changes.append((now, step))
        if len(changes) == 1:
            return 0.0
        while len(changes) > 2 and changes[1][0] <= now - _WINDOW_S:
            changes.popleft()
        began, first = changes[0]
        last = changes[-1][0]
        if now - last > max(_WINDOW_S, _MAX_LATENESS * (last - changes[-2][0])):
            return 0.0
        return max((step - first) / (now - began), 0.0) if now > began else 0.0
