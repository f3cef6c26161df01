"""Ctrl-C during a run: the first ends it after the iteration, the second at once, without a traceback.

The stack of targets belongs to the main thread: signal handlers are set and run only there.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Protocol

from lab_core import logger

_NOTICE = "Stopping after this iteration; press Ctrl-C again to end now"


class Interruptible(Protocol):
    """A loop that the first Ctrl-C interrupts."""

    is_interrupted: bool

    def interrupt(self) -> None:
        """End after the iteration in progress."""


_stack: list[Interruptible] = []
_pid = 0
_is_ended_by: Callable[[BaseException], bool] | None = None


@contextlib.contextmanager
def catch_interrupts(target: Interruptible, *, enabled: bool = True) -> Iterator[None]:
    """Call `target.interrupt` at the first Ctrl-C; the previous handler is always restored.

    Does nothing outside the main thread, or if another handler for the signal is set.
    """
    if not (enabled and _may_handle()):
        yield
        return
    global _pid
    _pid = os.getpid()
    _stack.append(target)
    signal.signal(signal.SIGINT, _handle)
    try:
        yield
    finally:
        if target in _stack:
            _stack.remove(target)
        _restore()


def release(target: Interruptible) -> None:
    """Remove `target`, so that Ctrl-C no longer interrupts it; also for a loop left by an exception."""
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


def _handle(_signum: int, _frame: FrameType | None) -> None:
    target = _stack[-1] if _stack else None
    if target is None or target.is_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    target.interrupt()
    if os.getpid() == _pid:  # a loader's worker inherits the handler by fork, and must not log
        # in a thread, as the signal may interrupt a log call; not threading.Thread, which takes locks
        _thread.start_new_thread(logger.log, (_NOTICE, logger.Text.warning))


def end_quietly(is_ended_by: Callable[[BaseException], bool]) -> None:
    """Show no traceback for an uncaught Ctrl-C that ended the run.

    The exit status is still that of an interrupt (130 in a shell). Does nothing if another
    `sys.excepthook` is set.

    Args:
        is_ended_by: ends the run if it is still running; returns whether this Ctrl-C ended it.
    """
    global _is_ended_by
    if sys.excepthook in (sys.__excepthook__, _show):
        _is_ended_by = is_ended_by
        sys.excepthook = _show


def end_loudly(is_ended_by: Callable[[BaseException], bool]) -> None:
    """Undo ``end_quietly``, unless another run has called it in the meantime."""
    global _is_ended_by
    if _is_ended_by == is_ended_by:
        _is_ended_by = None
        if sys.excepthook is _show:
            sys.excepthook = sys.__excepthook__


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    is_ended_by = _is_ended_by
    if not isinstance(error, KeyboardInterrupt) or is_ended_by is None or not is_ended_by(error):
        sys.__excepthook__(kind, error, trace)
