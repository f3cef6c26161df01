"""How often to write: at once after a pause, in longer and longer intervals while records come fast."""

from __future__ import annotations

_FIRST_INTERVAL_S = 0.02
_QUIET_S = 1.0  # after so long without a write, it is as at the beginning


class Pace:
    """Says when the next write is due.

    A write costs the same for one record as for twenty, and takes its time from a step that waits for
    every core. So while records come fast the interval doubles, up to the longest; what comes after
    a pause is due at once.

    Args:
        longest_s: the longest interval between two writes, in seconds.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._interval_s = 0.0
        self._written_at: float | None = None

    def wait_s(self, now: float) -> float:
        """Return how long to wait before the next write; `now` as in `written`."""
        if self._written_at is None:
            return 0.0
        return max(0.0, self._written_at + self._interval_s - now)

    def written(self, now: float) -> None:
        """Note a write at `now`, in seconds of a clock that never goes back."""
        is_quiet = self._written_at is None or now - self._written_at > _QUIET_S
        longer_s = 0.0 if is_quiet else 2 * self._interval_s
        self._interval_s = min(max(longer_s, _FIRST_INTERVAL_S), self._longest_s)
        self._written_at = now
