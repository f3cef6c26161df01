"""Summarise values: mean, histogram, images. numpy is imported only for arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lab_core.writers.base import HistogramPoint

NUM_BINS = 30
Digest = tuple[int, Any]
"""A tensor too large to keep: how many numbers it has, and an array of its least and largest finite number, the
sum of all, the sum of the finite and of their squares, the numbers of NaN and of infinities, and how many of the
finite are in each of NUM_BINS bins of equal width."""


def mean(values: list[Any]) -> float:
    """Return the mean of all numbers in floats, arrays and digests; NaN and infinities propagate."""
    if len(values) == 1 and type(values[0]) is float:
        return values[0]
    total, num = 0.0, 0
    for value in values:
        if type(value) is float:
            total, num = total + value, num + 1
        elif type(value) is tuple:
            total, num = total + float(value[1][2]), num + value[0]
        else:
            total, num = total + float(value.sum(dtype="float64")), num + value.size
    return total / num


def histogram(name: str, step: int, time: float, values: list[Any]) -> HistogramPoint:
    """Return the histogram of the numbers over 30 bins of equal width.

    The numbers of a digest that is not alone count as the middle of their bin.
    """
    import numpy as np

    digests: list[Digest] = [value for value in values if type(value) is tuple]
    others = [value for value in values if type(value) is not tuple]
    if others:
        floats = np.asarray([v for v in others if type(v) is float], np.float64)
        parts = [np.asarray(v, np.float64).ravel() for v in others if type(v) is not float]
        digests.append(_digest(np.concatenate([floats, *parts])))
    num, numbers = digests[0] if len(digests) == 1 else _joined(digests)
    low, high, _, total, squares, num_nan, num_inf, *counts = map(float, numbers)
    if not low <= high:
        edges, counts = [0.0], []
    elif _is_cuttable(low, high):
        edges = _bounds(low, high).tolist()
    else:
        edges, counts = (
            [low, high if high > low else float(np.nextafter(low, np.inf))],
            [sum(counts)],
        )
    return HistogramPoint(
        name=name,
        step=step,
        time=time,
        edges=tuple(edges),
        counts=tuple(map(int, counts)),
        num=num,
        total=total,
        sum_squares=squares,
        num_nan=int(num_nan),
        num_inf=int(num_inf),
    )


def _is_cuttable(low: float, high: float) -> bool:
    """Tell whether a range is neither too narrow nor too wide for numpy to divide it into distinct bins."""
    if not math.isfinite(high - low):
        return False
    bounds = _bounds(low, high)
    return bool((bounds[1:] > bounds[:-1]).all())


def _bounds(low: float, high: float) -> Any:
    import numpy as np

    return np.linspace(low, high, NUM_BINS + 1)


def _digest(data: Any) -> Digest:
    """Return the digest of an array of float64 [N]; all are in the first bin of a range that cannot be divided."""
    import numpy as np

    finite = data[np.isfinite(data)]
    num_nan = int(np.isnan(data).sum())
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)
    counts = np.zeros(NUM_BINS)
    if _is_cuttable(low, high):
        counts = np.histogram(finite, NUM_BINS, (low, high))[0]
    else:
        counts[0] = finite.size
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [data.sum(), finite.sum(), np.square(finite).sum()]
    head = [low, high, *sums, num_nan, data.size - finite.size - num_nan]
    return data.size, np.concatenate([head, counts])


def _joined(digests: list[Digest]) -> Digest:
    import numpy as np

    rows = np.asarray([numbers for _, numbers in digests], np.float64)
    low, high = float(rows[:, 0].min()), float(rows[:, 1].max())
    counts = np.zeros(NUM_BINS)
    if _is_cuttable(low, high):
        middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
        for row in rows:
            if row[0] <= row[1]:
                at = (
                    row[0] + (row[1] - row[0]) * middles
                    if _is_cuttable(*row[:2])
                    else row[:1].repeat(NUM_BINS)
                )
                counts += np.histogram(at, NUM_BINS, (low, high), weights=row[7:])[0]
    else:
        counts[0] = rows[:, 7:].sum()
    with np.errstate(over="ignore", invalid="ignore"):
        head = [low, high, *rows[:, 2:7].sum(0)]
    return sum(num for num, _ in digests), np.concatenate([head, counts])


def images_uint8(array: Any) -> Iterator[Any]:
    """Yield uint8 HWC images of an array HW, CHW, HWC, NCHW or NHWC; floats in [0, 1]."""
    import numpy as np

    if array.dtype != np.uint8:
        if array.dtype.kind == "f":
            array = np.nan_to_num(array, nan=0.0, posinf=1.0, neginf=0.0) * 255.0 + 0.5
        elif array.dtype.kind == "b":
            array = array * 255
        array = np.clip(array, 0, 255).astype(np.uint8)
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3:
        array = array[None]
    # If ambiguous, channels come first as in torch; a first axis of 4 is taken for rows, not RGBA.
    if array.shape[1] in (1, 3) or array.shape[3] not in (1, 3, 4):
        array = np.moveaxis(array, 1, 3)
    yield from array
