"""Writers keep metrics, or show them: console, sqlite, tensorboard, or one of your own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

from lab_core.errors import SettingsError
from lab_core.writers.base import (
    Batch,
    HistogramPoint,
    HparamsWriter,
    HparamValue,
    ImagePoint,
    IndexedPoint,
    ScalarColumn,
    ScalarGroup,
    TextPoint,
    TruncatingWriter,
    Writer,
)
from lab_core.writers.console import ConsoleWriter
from lab_core.writers.memory import MemoryWriter
from lab_core.writers.sqlite import SqliteWriter
from lab_core.writers.tensorboard import TensorboardWriter

__all__ = [
    "NAMES",
    "Batch",
    "ConsoleWriter",
    "HistogramPoint",
    "HparamValue",
    "HparamsWriter",
    "ImagePoint",
    "IndexedPoint",
    "MemoryWriter",
    "ScalarColumn",
    "ScalarGroup",
    "SqliteWriter",
    "TensorboardWriter",
    "TextPoint",
    "TruncatingWriter",
    "Writer",
    "create",
]

NAMES = ("console", "sqlite", "tensorboard")


def create(
    wanted: Iterable[str | Writer],
    folder: Path,
    total_steps: Callable[[], int | None] | None = None,
) -> list[Writer]:
    """Return the writers of a run: those named, for its folder, and those given as they are.

    Args:
        wanted: names of writers, or writers.
        folder: of the run.
        total_steps: returns the step at which the run will be done, for the console's bar.

    Raises:
        SettingsError: If there is no writer of a name.
    """
    if isinstance(wanted, str):
        wanted = [wanted]
    return [
        _create(item, folder, total_steps) if isinstance(item, str) else item for item in wanted
    ]


def _create(name: str, folder: Path, total_steps: Callable[[], int | None] | None) -> Writer:
    if name == "console":
        return ConsoleWriter(total_steps)
    if name == "sqlite":
        return SqliteWriter(folder / "sqlite.db")
    if name == "tensorboard":
        return TensorboardWriter(folder / "tensorboard")
    close = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NAMES)}"
    raise SettingsError(f"unknown writer {name!r}; {hint}")
