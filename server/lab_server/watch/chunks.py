"""A piece of a metric's history as bytes: all of its points, and a summary of 256 points to one.

A plot of many points is drawn from summaries alone; what is finer is cheap to make from the points.
Imports numpy, so import it where it is used: the server's start does without.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from lab_server.errors import DamagedHistory
from lab_server.store.protocol import NewSeriesChunk
from lab_server.watch.series import Points, Steps, Values

MAX_CHUNK_POINTS: Final = 4096
BUCKET_POINTS: Final = 256

_BUCKET: Final = np.dtype(
    [
        ("num_points", "<i8"),
        ("mean", "<f8"),  # of the finite values
        # the first, the least, the largest, the first that is not finite, and the last point;
        # what there is none of is the first once more
        ("steps", "<i8", (5,)),
        ("values", "<f8", (5,)),
    ]
)


def make_chunks(metric: str, steps: Steps, values: Values) -> Iterator[NewSeriesChunk]:
    """Yield the chunks of points in strictly ascending order of steps."""
    for start in range(0, len(steps), MAX_CHUNK_POINTS):
        piece = slice(start, start + MAX_CHUNK_POINTS)
        yield NewSeriesChunk(
            metric,
            int(steps[piece][0]),
            int(steps[piece][-1]),
            len(steps[piece]),
            summarise(steps[piece], values[piece]),
            encode_points(steps[piece], values[piece]),
        )


def encode_points(steps: Steps, values: Values) -> bytes:
    """Return points as bytes: the gaps between steps and the values, each by byte planes."""
    gaps = np.diff(steps, prepend=np.int64(0)).astype("<i8")
    numbers = np.concatenate([gaps.view("u1"), values.astype("<f8").view("u1")])
    return zlib.compress(numbers.reshape(-1, 8).T.tobytes())


def decode_points(data: bytes, num_points: int) -> Points:
    """Return points as they were encoded.

    Raises:
        DamagedHistory: If the bytes are damaged.
    """
    try:
        planes = np.frombuffer(zlib.decompress(data), "u1").reshape(8, 2 * num_points)
    except (zlib.error, ValueError) as error:
        raise DamagedHistory(f"a chunk of a history is damaged: {error}") from error
    numbers = np.ascontiguousarray(planes.T)
    steps = np.cumsum(numbers[:num_points].view("<i8").ravel(), dtype=np.int64)
    return steps, numbers[num_points:].view("<f8").ravel().astype(np.float64)


def summarise(steps: Steps, values: Values) -> bytes:
    """Return the summary of a chunk."""
    starts = range(0, len(steps), BUCKET_POINTS)
    buckets = np.zeros(len(starts), _BUCKET)
    for bucket, start in zip(buckets, starts, strict=True):
        piece = slice(start, start + BUCKET_POINTS)
        _fill(bucket, steps[piece], values[piece])
    return buckets.tobytes()


def points_of_summaries(summaries: Sequence[bytes]) -> Points:
    """Return the points that stand for all of the chunks' points, in order of their steps.

    Raises:
        DamagedHistory: If the bytes are damaged.
    """
    buckets = _buckets(summaries)
    steps, first = np.unique(buckets["steps"].ravel(), return_index=True)
    return steps.astype(np.int64), buckets["values"].ravel()[first].astype(np.float64)


def means_of_summaries(summaries: Sequence[bytes]) -> tuple[Steps, Values, Values]:
    """Return of each bucket the middle of its steps, the mean of its finite values, and how many points.

    Raises:
        DamagedHistory: If the bytes are damaged.
    """
    buckets = _buckets(summaries)
    first, last = buckets["steps"][:, 0], buckets["steps"][:, -1]
    middle = (first + (last - first) // 2).astype(np.int64)
    return middle, buckets["mean"].astype(np.float64), buckets["num_points"].astype(np.float64)


def _buckets(summaries: Sequence[bytes]) -> Any:
    try:
        return np.frombuffer(b"".join(summaries), _BUCKET)
    except ValueError as error:
        raise DamagedHistory(f"a summary of a history is damaged: {error}") from error


def _fill(bucket: Any, steps: Steps, values: Values) -> None:
    is_finite = np.isfinite(values)
    finite = np.flatnonzero(is_finite)
    low = high = other = 0
    mean = np.nan
    if len(finite):
        low = int(finite[np.argmin(values[finite])])
        high = int(finite[np.argmax(values[finite])])
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values[finite].mean()
    if len(finite) < len(values):
        other = int(np.argmin(is_finite))
    points = [0, low, high, other, len(steps) - 1]
    bucket["num_points"] = len(steps)
    bucket["mean"] = mean
    bucket["steps"] = steps[points]
    bucket["values"] = values[points]
