"""How often to write: at once after a pause, at growing intervals while records come fast."""

from __future__ import annotations

_FIRST_INTERVAL_S = 0.02
_QUIET_S = 1.0  # after this long without a write, the interval is reset


class Pace:
    """Decides when the next write is due.

    A write costs the same for one record as for twenty, and competes with the training for the cores.
    So while records come fast the interval doubles, up to the longest; the first record after a pause
    is written at once.

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
        """Record a write at `now`, in seconds of a monotonic clock."""
        is_quiet = self._written_at is None or now - self._written_at > _QUIET_S
        longer_s = 0.0 if is_quiet else 2 * self._interval_s
        self._interval_s = min(max(longer_s, _FIRST_INTERVAL_S), self._longest_s)
        self._written_at = now
