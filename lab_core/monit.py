"""Sections and progress bars, on the console that logger writes to.

Each thread has a stack of sections. A section left by an exception is closed by it; one that was not
closed is closed with the section around it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from lab_core.errors import LabError
from lab_core.logger.bar import Bar
from lab_core.logger.sinks import Sink, sink
from lab_core.logger.styles import Part, Style
from lab_core.tracker import settle
from lab_core.tracker.steps import activity

__all__ = ["enum", "fail", "iterate", "progress", "section"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Section:
    name: str
    bar: Bar
    sink: Sink
    total: float | None
    is_counted: bool
    is_silent: bool
    is_timed: bool
    outcome: str = "[DONE]"


class _Stack(threading.local):
    def __init__(self) -> None:
        self.open: list[_Section] = []


_stack = _Stack()


@contextmanager
def section(
    name: str,
    *,
    is_silent: bool = False,
    is_timed: bool = True,
    total_steps: float = 1.0,
) -> Iterator[None]:
    """Show a section while it runs, then whether it is done, failed or was stopped, and its duration.

    Args:
        name: the section's name.
        is_silent: show nothing.
        is_timed: show the duration.
        total_steps: the final value of `progress`.
    """
    this = _open(name, total_steps, is_counted=False, is_silent=is_silent, is_timed=is_timed)
    try:
        yield
    except BaseException as error:
        this.outcome = _outcome(error)
        raise
    finally:
        _close(this, this.outcome)


def progress(fraction: float) -> None:
    """Set the progress of the innermost section: out of 1, or of its `total_steps`."""
    this = _innermost("progress")
    this.bar.done, this.bar.total = float(fraction), this.total
    activity()
    this.sink.refresh()


def fail() -> None:
    """Mark the innermost section as failed; its code continues."""
    _innermost("fail").outcome = "[FAIL]"


@overload
def iterate(name: str, iterable: int, total_steps: int | None = None, *, is_silent: bool = False, is_timed: bool = True) -> Iterator[int]: ...  # fmt: skip
@overload
def iterate(name: str, iterable: Iterable[T], total_steps: int | None = None, *, is_silent: bool = False, is_timed: bool = True) -> Iterator[T]: ...  # fmt: skip
def iterate(
    name: str,
    iterable: Iterable[Any] | int,
    total_steps: int | None = None,
    *,
    is_silent: bool = False,
    is_timed: bool = True,
) -> Iterator[Any]:
    """Yield the items and show the progress. A number stands for its range.

    Args:
        name: the label of the progress bar.
        iterable: the items.
        total_steps: the number of items, if `iterable` has no length.
        is_silent: show nothing.
        is_timed: show the duration.
    """
    items = range(iterable) if isinstance(iterable, int) else iterable
    numbered = _numbered(name, items, total_steps, is_silent=is_silent, is_timed=is_timed)
    return (item for _, item in numbered)


def enum(
    name: str, iterable: Iterable[T], *, is_silent: bool = False, is_timed: bool = True
) -> Iterator[tuple[int, T]]:
    """Yield (number, item), and show how far it is.

    A loader that goes on in the middle of its data says where, by `start_index`: numbers begin there.
    """
    return _numbered(name, iterable, None, is_silent=is_silent, is_timed=is_timed)


def _numbered(
    name: str, iterable: Iterable[T], total: int | None, *, is_silent: bool, is_timed: bool
) -> Iterator[tuple[int, T]]:
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = None
    items = iter(iterable)
    start = int(getattr(iterable, "start_index", 0) or 0)
    this = _open(name, total, is_counted=True, is_silent=is_silent, is_timed=is_timed)
    bar = this.bar
    bar.done = bar.start_done = start
    outcome = "[DONE]"
    settle()  # what was measured before the first item does not belong to its step
    try:
        for number, item in enumerate(items, start):
            yield number, item
            # The body is done: what it measured and did not save belongs to the step of now.
            settle()
            activity()
            bar.done = number + 1
            this.sink.refresh()
    except BaseException as error:
        outcome = _outcome(error)
        raise
    finally:
        _close(this, outcome)


def _outcome(error: BaseException) -> str:
    if isinstance(error, GeneratorExit):
        return "[LEFT]"  # by a break or an exception in the body: a generator cannot tell which
    return "[STOPPED]" if isinstance(error, SystemExit | KeyboardInterrupt) else "[FAIL]"


def _open(
    name: str, total: float | None, *, is_counted: bool, is_silent: bool, is_timed: bool
) -> _Section:
    is_silent = is_silent or any(s.is_silent for s in _stack.open)
    # A section gets its bar with the first progress.
    bar = Bar(name, total if is_counted else None, depth=len(_stack.open))
    this = _Section(name, bar, sink(), total, is_counted, is_silent, is_timed)
    _stack.open.append(this)
    if not is_silent:
        this.sink.add_bar(bar)
    return this


def _close(this: _Section, outcome: str) -> None:
    if this not in _stack.open:
        return  # the section around it has closed it
    while _stack.open[-1] is not this:
        forgotten = _stack.open.pop()
        forgotten.sink.remove_bar(forgotten.bar)
    _stack.open.pop()
    if this.is_silent:
        return
    bar = this.bar
    this.sink.remove_bar(bar)
    parts: list[Part] = ["  " * bar.depth + this.name, "..."]
    if outcome in ("[LEFT]", "[STOPPED]") and this.is_counted and this.total:
        parts.append(f" {bar.done:,.0f}/{this.total:,.0f} ")
    style = {"[DONE]": Style.success, "[FAIL]": Style.danger}.get(outcome, Style.warning)
    parts.append((outcome, style))
    if this.is_timed:
        parts.append((f"\t{(time.monotonic() - bar.start_s) * 1e3:,.2f}ms", Style.meta))
    this.sink.print(parts)


def _innermost(what: str) -> _Section:
    if not _stack.open:
        raise LabError(f"monit.{what}() outside of a section: open one with monit.section(name)")
    return _stack.open[-1]
