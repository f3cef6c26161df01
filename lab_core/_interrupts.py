"""Ctrl-C during a loop: the first finishes the iteration, the second aborts.

The stack of who is told belongs to the main thread: only there are signal handlers set and run.
"""

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


_stack: list[Interruptible] = []


@contextlib.contextmanager
def catch_interrupts(target: Interruptible, *, enabled: bool = True) -> Iterator[None]:
    """Tell the first Ctrl-C to `target`; the handler is restored on every way out.

    Outside the main thread, and where somebody else handles the signal already, nothing changes.
    """
    if not (enabled and _may_handle()):
        yield
        return
    _stack.append(target)
    signal.signal(signal.SIGINT, _handle)
    try:
        yield
    finally:
        if target in _stack:
            _stack.remove(target)
        _restore()


def release(target: Interruptible) -> None:
    """Tell `target` of no more Ctrl-C; also for a loop that was left and is still referred to."""
    while target in _stack:
        _stack.remove(target)
    _restore()


def _restore() -> None:
    if not _stack and _is_main_thread() and signal.getsignal(signal.SIGINT) is _handle:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _may_handle() -> bool:
    ours = (signal.default_int_handler, _handle)
    return _is_main_thread() and signal.getsignal(signal.SIGINT) in ours


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handle(signum: int, frame: FrameType | None) -> None:
    target = _stack[-1] if _stack else None
    if target is None or target.is_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    target.interrupt()
    os.write(2, _NOTICE)  # print would fail if the signal came in the middle of one
