"""Ctrl-C during a run: the first finishes the iteration, the second ends it, without a traceback.

The stack of who is told belongs to the main thread: only there are signal handlers set and run.
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
    """What a first Ctrl-C is told to."""

    is_interrupted: bool

    def interrupt(self) -> None:
        """End after the iteration in progress."""


_stack: list[Interruptible] = []
_pid = 0
_is_ended_by: Callable[[BaseException], bool] | None = None


@contextlib.contextmanager
def catch_interrupts(target: Interruptible, *, enabled: bool = True) -> Iterator[None]:
    """Tell the first Ctrl-C to `target`; the handler is restored on every way out.

    Outside the main thread, and where somebody else handles the signal already, nothing changes.
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


def _handle(_signum: int, _frame: FrameType | None) -> None:
    target = _stack[-1] if _stack else None
    if target is None or target.is_interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    target.interrupt()
    if os.getpid() == _pid:  # a loader's worker was forked with the handler, and has nothing to say
        # a thread, as the signal may have come in the middle of a line; a bare one, as Thread has locks
        _thread.start_new_thread(logger.log, (_NOTICE, logger.Text.warning))


def end_quietly(is_ended_by: Callable[[BaseException], bool]) -> None:
    """Show no traceback of a Ctrl-C that nobody caught, if it is what ended the run.

    The process still dies of the signal, which a shell tells as 130. Where somebody else handles
    what nobody caught, nothing changes.

    Args:
        is_ended_by: ends the run, if it was not before, and says whether by this Ctrl-C.
    """
    global _is_ended_by
    if sys.excepthook in (sys.__excepthook__, _show):
        _is_ended_by = is_ended_by
        sys.excepthook = _show


def end_loudly(is_ended_by: Callable[[BaseException], bool]) -> None:
    """Undo ``end_quietly``, unless another run has called it since."""
    global _is_ended_by
    if _is_ended_by == is_ended_by:
        _is_ended_by = None
        if sys.excepthook is _show:
            sys.excepthook = sys.__excepthook__


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    ask = _is_ended_by
    if not isinstance(error, KeyboardInterrupt) or ask is None or not ask(error):
        sys.__excepthook__(kind, error, trace)
