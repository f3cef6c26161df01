"""What kind of line one of a run's log is."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class LogLevel(IntEnum):
    """The kind of a line; the numbers are those of the wire's LogLevel."""

    STDOUT = 0
    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    STDERR = 5


class LogLine(NamedTuple):
    """A line of a run's log, without its line end."""

    text: str
    level: LogLevel = LogLevel.STDOUT
