"""Show progress bars on a terminal or in a notebook."""

from __future__ import annotations

import html
import importlib
import time
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab_core.logger.bar import Bar
from lab_core.logger.styles import Part


class Bars(Protocol):
    """Shows progress bars, and lines above them."""

    def print(self, parts: Sequence[Part]) -> None:
        """Write a line above the bars."""

    def show(self, bars: Sequence[Bar]) -> None:
        """Show the current state of these bars."""

    def stop(self) -> None:
        """Remove the bars."""


class TerminalBars:
    """Bars at the bottom of a terminal, drawn with rich. Printed lines appear above them."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._console = Console(file=file, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def print(self, parts: Sequence[Part]) -> None:
        """Write a line above the bars."""
        self._console.print(styled(parts), soft_wrap=True)

    def show(self, bars: Sequence[Bar]) -> None:
        """Show the current state of these bars."""
        rows = Group(*[_row(bar, self._console.width) for bar in bars])
        if self._live is None:
            self._live = Live(rows, console=self._console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        else:
            self._live.update(rows, refresh=True)

    def stop(self) -> None:
        """Remove the bars."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class NotebookBars:
    """Bars in one output of a notebook cell, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def print(self, parts: Sequence[Part]) -> None:
        """Write a line; a notebook shows it apart from the bars."""
        print("".join(p if isinstance(p, str) else p[0] for p in parts))  # noqa: T201

    def show(self, bars: Sequence[Bar]) -> None:
        """Show the current state of these bars."""
        self._display("<br>".join(_html_row(bar) for bar in bars))

    def stop(self) -> None:
        """Clear the output; the next bars get a new one, in the cell that runs then."""
        if self._handle is not None:
            self._display("")
            self._handle = None

    def _display(self, text: str) -> None:
        # untyped, and installed wherever there is a notebook
        ipython: Any = importlib.import_module("IPython.display")
        shown = ipython.HTML(
            f"<div style='font-family:monospace;white-space:pre-wrap'>{text}</div>"
        )
        if self._handle is None:
            self._handle = ipython.display(shown, display_id=True)
        else:
            self._handle.update(shown)


def styled(parts: Sequence[Part]) -> Text:
    """Return the parts of a line as a rich text."""
    text = Text()
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        else:
            text.append(part[0], style=part[1].value)
    return text


def eta(bar: Bar, now_s: float | None = None) -> str:
    """Return the remaining time as H:MM:SS, or dashes if it is unknown."""
    now_s = time.monotonic() if now_s is None else now_s
    done = bar.done - bar.start_done
    if bar.total is None or done <= 0:
        return "-:--:--"
    left = max(0, round((now_s - bar.start_s) / done * (bar.total - bar.done)))
    return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"


def count(bar: Bar) -> str:
    """Return the progress as text: `12/30`, or a percentage if the total is at most 1."""
    if bar.total is None:
        return f"{bar.done:,.0f}" if bar.done else ""
    if bar.total > 1:
        return f"{bar.done:,.0f}/{bar.total:,.0f}"
    return f"{bar.done / bar.total:.0%}" if bar.total else ""


def _row(bar: Bar, width: int) -> RenderableType:
    cells: list[RenderableType] = [Text("  " * bar.depth + bar.text)]
    if bar.total:
        cells.append(
            ProgressBar(total=bar.total, completed=bar.done, width=24 if width >= 90 else 8)
        )
        cells += [Text(count(bar)), Text(f"eta {eta(bar)}", style="cyan")]
    else:
        cells.append(Text(count(bar) or "..."))
    table = Table.grid(padding=(0, 1))
    for cell in cells:  # on a narrow terminal only the metrics are cut
        table.add_column(no_wrap=True, min_width=len(cell) if isinstance(cell, Text) else None)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row(*cells, Text(bar.detail, style="bold"))
    return table


def _html_row(bar: Bar) -> str:
    text = html.escape("  " * bar.depth + bar.text)
    detail = html.escape(bar.detail)
    if not bar.total:
        return f"{text} {count(bar) or '...'} <b>{detail}</b>"
    value = min(max(bar.done / bar.total, 0.0), 1.0)
    return f"{text} <progress value='{value:.4f}'></progress> {count(bar)} eta {eta(bar)} <b>{detail}</b>"
