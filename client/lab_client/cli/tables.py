"""Tables that fit a terminal: they give up columns and say which, and never cut an id."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

LONG = 32
"""Where there is little room, longer texts go on in the next line, so that one of them does not take that of others."""


def fitting(
    make: Callable[[Sequence[str]], Table], losses: Sequence[Sequence[str]], width: int, hint: str
) -> Table:
    """Return a table that fits a width in characters, or the narrowest one.

    Args:
        make: makes the table without what it is given.
        losses: what the table may do without, each more than the one before.
        width: the terminal's.
        hint: how to see what is missing, for the line below the table.
    """
    measure = Console(width=100_000, markup=False, emoji=False)
    for given_up in ((), *losses):
        table = make(given_up)
        if measure.measure(table).maximum <= width:
            break
        for column in table.columns:
            if column.overflow == "fold":
                column.max_width = column.max_width or LONG
        if measure.measure(table).maximum <= width:
            break
    if given_up:
        told = f"no room for {', '.join(given_up)}: {hint}"
        table.caption = f"{table.caption}\n{told}" if table.caption else told
        table.caption_justify = "left"
    return table


def pairs(*, labels: str = "bold") -> Table:
    """Return a table of two columns, labels and values, in which nothing is cut."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style=labels, overflow="fold")
    table.add_column(overflow="fold")
    return table


def columns(*headers: str) -> Table:
    """Return a table with these headers, in which nothing is cut."""
    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table
