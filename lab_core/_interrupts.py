"""Ctrl-C during a loop: the first finishes the iteration, the second aborts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

_NOTICE = b"\nFinishing the iteration before stopping; press Ctrl-C again to abort.\n"


class Interruptible(Protocol):
    """What a first Ctrl-C is told to."""

    is_interrupted: bool

    def interrupt(self) -> None:
        """End after the iteration in progress."""


@contextlib.contextmanager
def catch_interrupts(target: Interruptible, *, enabled: bool = True) -> Iterator[None]:
    """Tell the first Ctrl-C to `target`; the handler is restored on every way out.

    Outside the main thread, and where somebody else handles the signal already, nothing changes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not (enabled and is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        if target.is_interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        target.interrupt()
        os.write(2, _NOTICE)  # print would fail if the signal came in the middle of one

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
