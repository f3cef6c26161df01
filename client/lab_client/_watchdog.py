"""Ends a stream that has gone silent: a dead connection looks just like a quiet one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any


class Watchdog:
    """Cancels a blocking stream call when one wait for an answer lasts too long.

    Only the time spent in waiting counts: a caller may take as long as it likes between two answers.
    `_waiting_since` is written by the reader alone and read by the watching thread.

    Args:
        call: the stream call.
        idle_timeout_s: the longest wait for one answer.
    """

    def __init__(self, call: Any, idle_timeout_s: float) -> None:
        self._call = call
        self._idle_timeout_s = idle_timeout_s
        self._waiting_since: float | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lab-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._call.cancel()

    def responses(self) -> Iterator[Any]:
        """Yield the answers of the call."""
        answers = iter(self._call)
        while True:
            self._waiting_since = time.monotonic()
            try:
                response = next(answers)
            except StopIteration:
                return
            self._waiting_since = None
            yield response

    def _watch(self) -> None:
        left_s = self._idle_timeout_s
        while not self._is_over.wait(left_s):
            since = self._waiting_since
            waited_s = 0.0 if since is None else time.monotonic() - since
            if waited_s >= self._idle_timeout_s:
                self._call.cancel()
                return
            left_s = self._idle_timeout_s - waited_s
