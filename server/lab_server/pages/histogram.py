"""A histogram as bars in a picture, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.pages.render import number

WIDTH: Final = 300
HEIGHT: Final = 110


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram.

    Attributes:
        bars: x, y, width and height of each, in a picture of WIDTH by HEIGHT.
        low, high: the texts of its bounds.
        text: what is to say of it.
    """

    bars: Sequence[tuple[float, float, float, float]]
    low: str
    high: str
    text: str


def bars_of(found: event_pb2.Histogram) -> Bars:
    """Return the bars; the height of each is its numbers by its width, so that their areas compare."""
    edges, counts = list(found.edges), list(found.counts)
    if len(edges) != len(counts) + 1 or not all(map(math.isfinite, edges)) or not counts:
        return Bars((), "", "", _words(found))
    low, high = edges[0], edges[-1]
    span = high - low
    if not 0 < span < math.inf:
        return Bars(((0, 0, WIDTH, HEIGHT),), number(low), number(high), _words(found))
    bins = [
        ((left - low) / span, (right - left) / span, count)
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
        if right > left
    ]
    tallest = max((count / width for _, width, count in bins), default=0) or 1
    bars = [
        (
            round(WIDTH * start, 2),
            round(HEIGHT * (1 - count / width / tallest), 2),
            round(WIDTH * width, 2),
            round(HEIGHT * count / width / tallest, 2),
        )
        for start, width, count in bins
    ]
    return Bars(bars, number(low), number(high), _words(found))


def _words(found: event_pb2.Histogram) -> str:
    num_finite = found.num_values - found.num_nan - found.num_infinite
    parts = [f"{found.num_values} {'number' if found.num_values == 1 else 'numbers'}"]
    if num_finite > 0:
        mean = found.sum / num_finite
        variance = max(0.0, found.sum_squares / num_finite - mean**2)
        parts.append(f"mean {number(mean)}, standard deviation {number(math.sqrt(variance))}")
    if found.num_nan or found.num_infinite:
        parts.append(f"{found.num_nan} NaN, {found.num_infinite} infinite")
    return "; ".join(parts)
