"""When to retry and when to give up: no I/O and no clock of its own, so both shells share it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from lab_client.errors import DeadlineExceeded, LabError, Unavailable

_FIRST_DELAY_S = 0.05
_LARGEST_DELAY_S = 2.0
# with several servers, one of which may be dead or frozen while another one takes over
_TRY_S = 8.0
_TAKEOVER_S = 25.0
_SILENCE_S = 20.0
_FOREVER_S = 365 * 86400.0  # gRPC takes no infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a client waits.

    Attributes:
        timeout_s: for the answer to one call, retries included.
        retry_timeout_s: how long a call that is safe to repeat is repeated while there is no answer.
        reconnect_timeout_s: how long a stream may make no progress, before it gives up.
        idle_timeout_s: how long a stream may be silent (no event, no heartbeat) before it is
            taken for dead and opened again.
        stream_s: the deadline of one stream call; it is opened again after it, unnoticed.
        try_s: for the answer to one try of a call that is safe to repeat.
    """

    timeout_s: float = 30.0
    retry_timeout_s: float = 5.0
    reconnect_timeout_s: float = 120.0
    idle_timeout_s: float = 60.0
    stream_s: float = 3600.0
    try_s: float = math.inf

    def among(self, num_servers: int) -> Timeouts:
        """Return these for so many servers: with several, one that is silent is given up sooner."""
        if num_servers == 1:
            return self
        return replace(
            self,
            retry_timeout_s=max(self.retry_timeout_s, _TAKEOVER_S),
            idle_timeout_s=min(self.idle_timeout_s, _SILENCE_S),
            try_s=_TRY_S,
        )


class Backoff:
    """Delays that double, with jitter so that many clients do not come back at once."""

    def __init__(self) -> None:
        self._delay_s = _FIRST_DELAY_S

    def next_s(self) -> float:
        """Return how long to wait now."""
        delay_s = self._delay_s
        self._delay_s = min(_LARGEST_DELAY_S, delay_s * 2)
        return delay_s * random.uniform(0.75, 1.25)  # noqa: S311  # jitter, no secret

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._delay_s = _FIRST_DELAY_S


class Attempts:
    """The tries of one call: tells each one's deadline, and whether there is another.

    Args:
        is_safe: whether the call may be sent twice.
        timeout_s: for all tries together.
        retry_timeout_s: how long it is sent again while there is no answer.
        now: seconds, monotonic.
        try_s: for one try of a call that may be sent twice.
    """

    def __init__(
        self,
        is_safe: bool,
        timeout_s: float,
        retry_timeout_s: float,
        now: Callable[[], float],
        try_s: float = math.inf,
    ) -> None:
        self._is_safe = is_safe
        self._try_s = try_s if is_safe else math.inf
        self._now = now
        self._end = now() + timeout_s
        self._retry_end = min(self._end, now() + retry_timeout_s)
        self._backoff = Backoff()

    def timeout_s(self) -> float:
        """Return what is left for the next try."""
        return max(0.001, min(self._end - self._now(), self._try_s, _FOREVER_S))

    def delay_before_retry(self, error: LabError) -> float:
        """Return how long to wait before the next try; raise the error when there is none."""
        is_late_try = isinstance(error, DeadlineExceeded) and self._try_s < math.inf
        if not (self._is_safe and (isinstance(error, Unavailable) or is_late_try)):
            raise error
        delay_s = self._backoff.next_s()
        if self._now() + delay_s > self._retry_end:
            raise error
        return delay_s


class Reconnect:
    """The tries of one stream: bounded by the time without progress, not by their number.

    Args:
        what: what is read, for the sentence of the error.
        timeouts: the client's.
        timeout_s: the bound on the whole stream; None for none.
        now: seconds, monotonic.
        on_no_answer: is called at each retry with the seconds without an answer; with 0 when it is over.
    """

    def __init__(
        self,
        what: str,
        timeouts: Timeouts,
        timeout_s: float | None,
        now: Callable[[], float],
        on_no_answer: Callable[[float], None] | None = None,
    ) -> None:
        self._what = what
        self._timeouts = timeouts
        self._now = now
        self._end = None if timeout_s is None else now() + timeout_s
        self._timeout_s = timeout_s
        self._last_progress = now()
        self._backoff = Backoff()
        self._on_no_answer = on_no_answer
        self._lost_at: float | None = None

    def call_timeout_s(self) -> float:
        """Return the deadline of the next stream call; raise when the time for all is over."""
        if self._end is None:
            return self._timeouts.stream_s
        left_s = self._end - self._now()
        if left_s <= 0:
            raise DeadlineExceeded(f"{self._what} did not end within {self._timeout_s:g} s")
        return min(self._timeouts.stream_s, left_s)

    def progressed(self) -> None:
        """Note that an answer came, be it an empty one."""
        self._last_progress = self._now()
        self._backoff.reset()
        if self._lost_at is not None:
            self._lost_at = None
            if self._on_no_answer is not None:
                self._on_no_answer(0.0)

    def delay_before_reconnect(self, error: LabError | None) -> float:
        """Return how long to wait before the stream is opened again.

        Args:
            error: how it ended; None when the server ended it early, without an error.

        Raises:
            Unavailable: if there was no progress for too long.
        """
        now = self._now()
        silent_s = now - self._last_progress
        # Counted from the first failure: before it the stream may only have had nothing to say.
        self._lost_at = now if self._lost_at is None else self._lost_at
        if self._on_no_answer is not None:
            self._on_no_answer(now - self._lost_at)
        delay_s = self._backoff.next_s()
        if silent_s + delay_s > self._timeouts.reconnect_timeout_s:
            why = str(error) if error else "the server ended the stream too early"
            raise Unavailable(
                f"{self._what}: gave up after {silent_s:.3g} s without progress; this "
                f"changes nothing on the server, try again later. Last reason: {why}"
            ) from error
        return delay_s if self._end is None else min(delay_s, max(0.0, self._end - self._now()))
