"""SIGTERM and SIGHUP to a script, e.g. from Slurm or docker: the first ends it after the current step.

The target belongs to the main thread: signal handlers are set and run only there.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Protocol

from lab_core import logger

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    **dict.fromkeys(_SIGNALS, signal.SIG_DFL),
}


class Terminable(Protocol):
    """A run that the first signal ends."""

    exit_status: int | None

    def terminate(self, exit_status: int) -> None:
        """End the run after the current step; if no step is in progress, end it now."""

    def end_now(self, exit_status: int) -> None:
        """Raise the exception that ends the run."""


_target: Terminable | None = None


def catch_terminations(target: Terminable) -> None:
    """Let SIGTERM and SIGHUP end `target`, until `release_terminations`.

    Does nothing outside the main thread, or if another handler for SIGTERM is set.
    """
    global _target
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, _handle):
        return
    _target = target
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, _handle)


def release_terminations(target: Terminable) -> None:
    """Remove `target`, and restore the default handlers."""
    global _target
    if _target is target:
        _target = None
        _restore()


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP wait until the block is left; the next one does what it always does.

    Does nothing outside the main thread, and leaves signals alone that somebody handles.
    """
    held: list[int] = []
    ours = [number for number in _DEFAULTS if signal.getsignal(number) == _DEFAULTS[number]]
    if threading.current_thread() is not threading.main_thread():
        ours = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)
        let_go()

    def let_go() -> None:
        for number in ours:
            if signal.getsignal(number) is hold:
                signal.signal(number, _DEFAULTS[number])

    for number in ours:
        signal.signal(number, hold)
    try:
        yield
    finally:
        let_go()
        for late in held:
            signal.raise_signal(late)


def _restore() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is _handle:
                signal.signal(number, signal.SIG_DFL)


def _handle(number: int, _frame: FrameType | None) -> None:
    target, exit_status = _target, 128 + number
    if target is None:
        _restore()
        os.kill(os.getpid(), number)
    elif target.exit_status is not None:
        _restore()
        target.end_now(exit_status)
    else:
        # a thread, as the signal may have come in the middle of a line
        notice = f"{signal.Signals(number).name}: stopping after this step; once more ends it now"
        _thread.start_new_thread(logger.log, (notice, logger.Text.warning))
        target.terminate(exit_status)


if hasattr(os, "register_at_fork"):
    # who ends a loader's worker means the worker
    os.register_at_fork(after_in_child=_restore)
