"""Summarise values: mean, histogram, images. numpy is imported only for arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lab_core.writers.base import HistogramPoint

_NUM_BINS = 30


def mean(values: list[Any]) -> float:
    """Return the mean of all numbers in floats and arrays; NaN and infinities propagate."""
    if len(values) == 1 and type(values[0]) is float:
        return values[0]
    total, num = 0.0, 0
    for value in values:
        if type(value) is float:
            total, num = total + value, num + 1
        else:
            total, num = total + float(value.sum(dtype="float64")), num + value.size
    return total / num


def histogram(name: str, step: int, time: float, values: list[Any]) -> HistogramPoint:
    """Return the histogram of the numbers over 30 bins of equal width."""
    import numpy as np

    floats = [v for v in values if type(v) is float]
    parts = [np.asarray(v, np.float64).ravel() for v in values if type(v) is not float]
    data = np.concatenate([np.asarray(floats, np.float64), *parts])
    finite = data[np.isfinite(data)]
    num_nan = int(np.isnan(data).sum())
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        # numpy cannot divide a range that is too narrow or too wide into distinct bins.
        is_cuttable = math.isfinite(high - low) and low + (high - low) / _NUM_BINS > low
        bins = _NUM_BINS if is_cuttable else 1
        if not is_cuttable:
            edges = np.asarray([low, high if high > low else np.nextafter(low, np.inf)])
            counts = np.asarray([finite.size])
        else:
            counts, edges = np.histogram(finite, bins, (low, high))
    else:
        counts, edges = np.asarray([], np.int64), np.asarray([0.0])
    with np.errstate(over="ignore"):
        total, squares = float(finite.sum()), float(np.square(finite).sum())
    return HistogramPoint(
        name=name,
        step=step,
        time=time,
        edges=tuple(edges.tolist()),
        counts=tuple(int(c) for c in counts),
        num=data.size,
        total=total,
        sum_squares=squares,
        num_nan=num_nan,
        num_inf=data.size - finite.size - num_nan,
    )


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
