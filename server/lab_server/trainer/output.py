"""A trainer's standard output and error: one file, and beside it which lines are errors and warnings.

What C code and other programs write goes to the file as it is, without a level.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from lab_core.logger.sinks import Mode, Sink, set_sink
from lab_core.logger.styles import Part, Style
from lab_server.files.log_levels import RECORD
from lab_server.files.run_folder import RunFolder
from lab_server.model.log_level import LogLevel

lock = threading.Lock()
"""Held while a line and its level are written: who holds it finds the level of each line that is there."""


def _renew_lock() -> None:
    global lock
    lock = threading.Lock()  # one that another thread held at a fork is never released in the child


os.register_at_fork(after_in_child=_renew_lock)


def redirect(folder: RunFolder) -> int:
    """Send what is printed, by C code and children too, to the log; return where it begins.

    Python's warnings, records of `logging` that no handler takes, and lines of lab_core's logger get
    levels of their own; everything else that Python code writes to sys.stderr is STDERR.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for number in (1, 2):  # opened twice: each has a position of its own
        fd = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, number)
        os.close(fd)
    offset = os.fstat(1).st_size
    # not the forkserver's objects: an experiment's module may have replaced those
    sys.stdout = sys.__stdout__ = open(  # type: ignore[misc]  # noqa: SIM115
        1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
    sys.stderr = sys.__stderr__ = Errors(folder.log_levels)  # type: ignore[misc]
    if warnings.showwarning.__module__ == "warnings":  # an experiment may have one of its own
        warnings.showwarning = _show_warning
    logging.lastResort = _LastResort(logging.WARNING)
    set_sink(_LevelSink())
    return offset


class Errors(io.TextIOWrapper):
    """Standard error as text, which notes the level of what is written.

    Args:
        levels: the file of levels.
    """

    def __init__(self, levels: Path) -> None:
        self._raw = _ErrorFile(levels)
        super().__init__(
            io.BufferedWriter(self._raw), encoding="utf-8", errors="replace", line_buffering=True
        )

    @contextlib.contextmanager
    def at(self, level: LogLevel) -> Iterator[None]:
        """Give what this thread writes inside the block a level."""
        self.flush()
        before, self._raw.now.level = self._raw.level, level
        try:
            yield
            self.flush()
        finally:
            self._raw.now.level = before


def write(text: str, level: LogLevel) -> bool:
    """Write a text with a level; return False when the experiment has sent sys.stderr elsewhere."""
    errors = sys.stderr
    if not isinstance(errors, Errors):
        return False
    with errors.at(level):
        errors.write(text)
    return True


class _ErrorFile(io.FileIO):
    """File descriptor 2, which is the log."""

    def __init__(self, levels: Path) -> None:
        super().__init__(2, "w", closefd=False)
        self.now = threading.local()
        self._path = levels
        self._levels = -1
        self._end = -1
        self._is_within_line = False

    @property
    def level(self) -> LogLevel:
        found: LogLevel = getattr(self.now, "level", LogLevel.STDERR)
        return found

    def write(self, data: Any, /) -> int:
        written = bytes(data)
        with lock:
            size = super().write(written)
            # of a file that is opened for appending: where this write ended
            end = os.lseek(2, 0, os.SEEK_CUR)
            begins_line = not self._is_within_line or end - size != self._end
            # a line has the level of its first byte, and a progress bar redraws its line many times
            if begins_line or b"\n" in written[:-1]:
                self._note(end - size, size)
            self._end, self._is_within_line = end, not written.endswith(b"\n")
        return size

    def _note(self, begin: int, size: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: the line is there, without a level
            if self._levels < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._levels = os.open(self._path, flags, 0o644)
            os.write(self._levels, RECORD.pack(begin, size, self.level))


class _LevelSink(Sink):
    """lab_core's console in a trainer: warnings and failures are lines with a level."""

    def __init__(self) -> None:
        super().__init__(mode=Mode.PLAIN)

    def print(self, parts: Sequence[Part]) -> None:
        styles = {part[1] for part in parts if not isinstance(part, str)}
        level = next((_LEVELS[style] for style in _LEVELS if style in styles), None)
        text = "".join(part if isinstance(part, str) else part[0] for part in parts)
        if level is None or not write(text + "\n", level):
            super().print(parts)


_LEVELS = {Style.danger: LogLevel.ERROR, Style.warning: LogLevel.WARNING}


class _LastResort(logging.Handler):
    """Prints records that no handler of the experiment takes, as logging does, with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + "\n"
            is_error = record.levelno >= logging.ERROR
            if not write(text, LogLevel.ERROR if is_error else LogLevel.WARNING):
                sys.stderr.write(text)
        except Exception:
            self.handleError(record)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    if file is not None or not write(text, LogLevel.WARNING):
        with contextlib.suppress(OSError):  # as Python's own
            (file or sys.stderr).write(text)
