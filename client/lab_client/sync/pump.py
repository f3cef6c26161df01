"""Reads a blocking stream in a thread of its own, so that the caller can always be interrupted.

Two things stand against reading it in the caller's thread: Ctrl-C, which Python raises in the main thread anywhere, also between the lines of
gRPC's bookkeeping, after which its locks are broken or its channel never closes; and a dead
connection, which looks just like a quiet one. The caller waits on a queue instead, which an
interrupt or a timeout ends safely.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from lab_client.transport import forks

_AHEAD = 4  # answers that are read before they are asked for; gRPC's flow control stops the server


class IdleTimeout(Exception):  # it ends a wait, and is caught by who waits
    """No answer came for the longest wait there may be."""


class ForkInterrupt(Exception):
    """The process forks, and the stream was ended for that; open it again."""


class _End:
    """The end of the stream, with the error that ended it."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Pump:
    """A stream call that is read ahead in a thread of its own.

    Only the caller's waits are timed: it may take as long as it likes between two answers.
    `_call` is written by the thread; either side cancels it, whichever comes last.

    Args:
        open_call: opens the call.
        idle_timeout_s: the longest wait for one answer.
    """

    def __init__(self, open_call: Callable[[], Any], idle_timeout_s: float) -> None:
        self._open_call = open_call
        self._idle_timeout_s = min(idle_timeout_s, threading.TIMEOUT_MAX)
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._is_over = False
        self._is_interrupted = False
        self._call: Any = None
        for _ in range(_AHEAD):
            self._room.put(None)

    def __enter__(self) -> Pump:
        try:
            threading.Thread(target=self._run, name="lab-stream", daemon=True).start()
        except BaseException:  # interrupted in the start
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the call and let the thread end; closing twice is fine."""
        if self._is_over:
            return  # at the process's end gRPC's locks may be held for ever
        self._is_over = True
        if self._call is not None:
            self._call.cancel()
        self._room.put(None)

    def interrupt(self) -> None:
        """End the call, so that the process can fork; whoever reads it is told so."""
        self._is_interrupted = True
        self.close()

    def responses(self) -> Iterator[Any]:
        """Yield the answers of the call.

        Raises:
            IdleTimeout: if none came for too long.
            ForkInterrupt: if the process forked; all answers before that were given.
            Exception: what ended the call, when it was not the server's good end.
        """
        while True:
            try:
                answer = self._answers.get(timeout=self._idle_timeout_s)
            except Empty:
                raise IdleTimeout from None
            if isinstance(answer, _End):
                if answer.error is not None:
                    raise answer.error
                return
            yield answer
            self._room.put(None)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with forks.call(self):
                self._read()
        except BaseException as raised:
            error = raised
        self._answers.put(_End(ForkInterrupt() if self._is_interrupted else error))

    def _read(self) -> None:
        self._call = self._open_call()
        if self._is_over:
            self._call.cancel()
        for response in self._call:
            self._answers.put(response)
            self._room.get()
            if self._is_over:
                return
