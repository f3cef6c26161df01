"""What text may look like."""

from __future__ import annotations

from enum import Enum


class Style(Enum):
    """A meaning of text, and how a terminal shows it (in rich's terms)."""

    none = ""
    danger = "bold red"
    success = "green"
    warning = "yellow"
    meta = "blue"
    key = "cyan"
    value = "bold"
    title = "bold underline"
    heading = "underline"
    highlight = "bold yellow"
    subtle = "dim"
    link = "blue underline"


Part = str | tuple[str, Style]
