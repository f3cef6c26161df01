"""How fast a run trains."""

from __future__ import annotations

from collections import deque

_NUM_READINGS = 6


class Speed:
    """Steps per second over the last few readings of the step.

    Args:
        now: when training began or was taken up, in seconds of any clock.
        step: the step at which it did; what came before was not trained in this time.
    """

    def __init__(self, now: float, step: int) -> None:
        self._start = now, step
        self._readings: deque[tuple[float, int]] = deque(maxlen=_NUM_READINGS)

    def read(self, now: float, step: int) -> float:
        """Take a reading, and return the speed; 0 before the first step is done."""
        if step == self._start[1]:
            self._readings.clear()  # what a run sets up before is not its steps' time
        elif not self._readings:
            self._readings.append(self._start)
        self._readings.append((now, step))
        began, first = self._readings[0]
        return max((step - first) / (now - began), 0.0) if now > began else 0.0
