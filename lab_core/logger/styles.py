"""Styles of console text."""

from __future__ import annotations

from enum import Enum


class Style(Enum):
    """The meaning of a text, and its style on a terminal (rich markup)."""

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
