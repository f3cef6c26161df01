"""Numbers by an index, such as the loss of each sample: as a picture, in words, and the greatest of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.pages.render import number

WIDTH: Final = 300
HEIGHT: Final = 110
_MAX_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Plot:
    """Numbers by an index.

    Attributes:
        path: of SVG: at each place from the least to the greatest index the span of its numbers, in a picture
            of WIDTH by HEIGHT.
        low_index, high_index, low, high: the texts of its bounds.
        text: what is to say of it.
        rows: indices and numbers, what is not finite first, then the greatest.
        num_hidden: how many have no row.
    """

    path: str
    low_index: str
    high_index: str
    low: str
    high: str
    text: str
    rows: Sequence[tuple[int, str]]
    num_hidden: int


def plot_of(found: event_pb2.IndexedValues) -> Plot:
    """Return the picture, words and rows of what was tracked at one step."""
    pairs = list(zip(found.indices, found.values, strict=False))
    finite = [(index, value) for index, value in pairs if math.isfinite(value)]
    odd = [(index, value) for index, value in pairs if not math.isfinite(value)]
    ranked = odd + sorted(finite, key=lambda pair: (-pair[1], pair[0]))
    rows = [(index, number(value)) for index, value in ranked[:_MAX_ROWS]]
    num_hidden = len(pairs) - len(rows)
    if not finite:
        return Plot("", "", "", "", "", _words(pairs, finite), rows, num_hidden)
    indices, values = [index for index, _ in finite], [value for _, value in finite]
    path = _path(indices, values)
    bounds = (str(min(indices)), str(max(indices)), number(min(values)), number(max(values)))
    return Plot(path, *bounds, _words(pairs, finite), rows, num_hidden)


def _path(indices: Sequence[int], values: Sequence[float]) -> str:
    """Return a dot for each number; many at one place are a line from their least to their greatest."""
    spans: dict[int, tuple[float, float]] = {}
    first, last, low, high = min(indices), max(indices), min(values), max(values)
    for index, value in zip(indices, values, strict=True):
        x = round(WIDTH * (index - first) / ((last - first) or 1))
        # halves: the span of the largest numbers is no number
        share = (value / 2 - low / 2) / ((high / 2 - low / 2) or 1)
        y = round(HEIGHT * (1 - share), 1)
        least, greatest = spans.get(x, (y, y))
        spans[x] = min(least, y), max(greatest, y)
    return "".join(f"M{x} {top}V{bottom}" for x, (top, bottom) in sorted(spans.items()))


def _words(pairs: Sequence[tuple[int, float]], finite: Sequence[tuple[int, float]]) -> str:
    parts = [f"{len(pairs)} {'value' if len(pairs) == 1 else 'values'}"]
    if finite:
        greatest = max(finite, key=lambda pair: pair[1])
        # one by one: the sum of large numbers is no number
        mean = math.fsum(value / len(finite) for _, value in finite)
        parts.append(f"mean {number(mean)}, greatest {number(greatest[1])} at {greatest[0]}")
    num_nan = sum(math.isnan(value) for _, value in pairs)
    if len(pairs) > len(finite):
        parts.append(f"{num_nan} NaN, {len(pairs) - len(finite) - num_nan} infinite")
    return "; ".join(parts)
