"""The only module that writes to the console, shared by logger, monit and the console writer.

It keeps lines and progress bars apart: on a terminal, bars are drawn below the lines (rich); in a
notebook, in one output that is updated; elsewhere there are only lines.
`_lock` guards the bars and the output.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TextIO

from lab_core.logger.bar import Bar
from lab_core.logger.styles import Part

if TYPE_CHECKING:
    from lab_core.logger.bars import Bars

_REFRESH_S = 0.2


class Mode(Enum):
    """The kind of console."""

    TERMINAL = "terminal"
    NOTEBOOK = "notebook"
    PLAIN = "plain"


class Sink:
    """A console: lines, and bars below them.

    Args:
        file: where to write; by default the current `sys.stdout`.
        mode: detected from the file by default.
    """

    def __init__(self, file: TextIO | None = None, mode: Mode | None = None) -> None:
        self._file = file
        self._mode = mode
        self._lock = threading.RLock()
        self._bars: list[Bar] = []
        self._view: Bars | None = None
        self._refreshed_s = 0.0

    @property
    def mode(self) -> Mode:
        """The kind of console."""
        return self._mode or _detect(self._file or sys.stdout)

    def print(self, parts: Sequence[Part]) -> None:
        """Write one line, above the bars."""
        with self._lock:
            mode = self.mode
            if mode is Mode.TERMINAL:
                self._shown().print(parts)
            else:
                self._write("".join(p if isinstance(p, str) else p[0] for p in parts) + "\n")

    def add_bar(self, bar: Bar) -> None:
        """Add a bar below the others."""
        with self._lock:
            self._bars.append(bar)
        self.refresh()

    def remove_bar(self, bar: Bar) -> None:
        """Remove a bar."""
        with self._lock, contextlib.suppress(ValueError):
            self._bars.remove(bar)
            if not self._bars and self._view is not None:
                self._view.stop()
                self._view = None

    def close(self) -> None:
        """Remove all bars."""
        with self._lock:
            for bar in list(self._bars):
                self.remove_bar(bar)

    def refresh(self, *, is_forced: bool = False) -> None:
        """Redraw the bars, at most a few times a second."""
        now = time.monotonic()
        if now - self._refreshed_s < _REFRESH_S and not is_forced:
            return
        with self._lock:
            self._refreshed_s = now
            if self._bars and self.mode is not Mode.PLAIN:
                with contextlib.suppress(OSError, ValueError):
                    self._shown().show(self._bars)

    def _shown(self) -> Bars:
        if self._view is None:
            # rich is imported only if bars are shown
            from lab_core.logger.bars import NotebookBars, TerminalBars

            if self.mode is Mode.TERMINAL:
                self._view = TerminalBars(self._file)
            else:
                self._view = NotebookBars()
            # rich hides the cursor while bars are shown; it must be restored at exit.
            atexit.unregister(self.close)
            atexit.register(self.close)
        return self._view

    def _write(self, text: str) -> None:
        # A closed pipe (| head) must not end the training.
        with contextlib.suppress(OSError, ValueError):
            file = self._file or sys.stdout
            file.write(text)
            file.flush()


def _detect(file: Any) -> Mode:
    ipython = sys.modules.get("IPython")
    if ipython is not None and file is sys.stdout:
        shell = ipython.get_ipython()
        if shell is not None and type(shell).__name__ == "ZMQInteractiveShell":
            return Mode.NOTEBOOK
    try:
        is_terminal = file.isatty() and os.environ.get("TERM", "") != "dumb"
    except (AttributeError, ValueError):
        is_terminal = False
    # Without rich there are lines, and no bars.
    return Mode.TERMINAL if is_terminal and importlib.util.find_spec("rich") else Mode.PLAIN


_sink = Sink()


def sink() -> Sink:
    """Return this process's console."""
    return _sink


def set_sink(new: Sink | None) -> Sink:
    """Use another console, or, with None, a fresh one on standard output; return it."""
    global _sink
    _sink = new or Sink()
    return _sink


if hasattr(os, "register_at_fork"):
    # A lock that another thread holds during a fork is never released in the child.
    os.register_at_fork(after_in_child=lambda: set_sink(None) and None)

__all__ = ["Mode", "Sink", "set_sink", "sink"]
