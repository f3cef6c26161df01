"""Curves of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab_client.cli.render import number

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def plot(values: Sequence[float], width: int = 60, height: int = 6) -> list[str]:
    """Return a line drawing of values in Braille characters, the scale at its left edge.

    Args:
        values: what is not finite is left out.
        width: characters for the drawing.
        height: lines.
    """
    finite = [(i, v) for i, v in enumerate(values) if math.isfinite(v)]
    if not finite:
        return []
    low, high = min(v for _, v in finite), max(v for _, v in finite)
    span = (high - low) or 1.0
    last = max(1, len(values) - 1)
    cells = [[0] * width for _ in range(height)]
    for index, value in finite:
        x = round(index / last * (2 * width - 1))
        y = round((high - value) / span * (4 * height - 1))
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    edge = max(len(number(low)), len(number(high)))
    labels = [number(high), *[""] * (height - 2), number(low)] if height > 1 else [number(high)]
    return [
        f"{label:>{edge}} ┤{''.join(chr(0x2800 + cell) for cell in row)}"
        for label, row in zip(labels, cells, strict=True)
    ]
