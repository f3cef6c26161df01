"""Write lines to the console without disturbing progress bars: `logger.log("ready", Text.success)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab_core.errors import LabError
from lab_core.logger.sinks import sink
from lab_core.logger.styles import Part, Style

Text = Style
styles = Style

__all__ = ["Style", "Text", "inspect", "log", "styles"]

_MAX_ITEMS = 20


def log(message: object = "", style: Style = Style.none, *more: Part) -> None:
    """Write one line: a text, or any other value, with a style, or parts with a style each.

    Example:
        >>> log([("accuracy: ", Text.key), ("97%", Text.value)])
        accuracy: 97%

    Raises:
        LabError: If a style or a part of the line is none.
    """
    if _is_part(message):
        parts: list[Any] = [message] if isinstance(message, tuple) else [(message, style)]
    elif isinstance(message, list | tuple):
        parts = [part for part in message if part]
    else:
        parts = [(str(message), style)]
    for part in (*parts, *more):
        if not _is_part(part):
            raise LabError(
                f"a part of a line is a text, or a text and a style such as Text.success; got {part!r}"
            )
    sink().print([*parts, *more])


def _is_part(part: object) -> bool:
    is_pair = isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], Style)
    return isinstance(part, str) or (is_pair and isinstance(part[0], str))  # type: ignore[index]


def inspect(*values: Any, **named: Any) -> None:
    """Print values: the items of mappings and sequences, the shape and dtype of arrays and tensors."""
    for value in values:
        for line in _lines(value):
            sink().print(line)
    width = max((len(name) for name in named), default=0)
    for name, value in named.items():
        sink().print([(f"{name:>{width}}", Style.key), ": ", (_summary(value), Style.value)])


def _lines(value: Any) -> list[list[Part]]:
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return [[(_summary(value), Style.value)]]
    width = max((len(key) for key, _ in items[:_MAX_ITEMS]), default=0)
    lines: list[list[Part]] = [
        [(f"{key:>{width}}", Style.key), ": ", (_summary(item), Style.value)]
        for key, item in items[:_MAX_ITEMS]
    ]
    if len(items) > _MAX_ITEMS:
        lines.append([(f"... {len(items) - _MAX_ITEMS} more of {len(items)}", Style.subtle)])
    return lines


def _summary(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{type(value).__name__} {list(shape)} {dtype}"
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 200 else text[:197] + "..."
