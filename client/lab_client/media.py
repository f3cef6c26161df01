"""What a run tracks beside its metrics: images, texts, histograms and indexed values."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TrackedImage:
    """A picture, as a PNG file in memory; a notebook shows it.

    Attributes:
        name: it was tracked under.
        step: the global step.
        png: the file.
        width: in pixels.
        height: in pixels.
        index: which of the step's pictures of this name it is, from 0.
        is_cut: it was too large for the log, so rows and columns are left out; the run's own files have it.
    """

    name: str
    step: int
    png: bytes
    width: int
    height: int
    index: int
    is_cut: bool

    kind = "image"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG file and return its path; missing folders are made."""
        return _write(path, self.png)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<TrackedImage {self.name} {self.width}x{self.height} at step {self.step}>"


@dataclass(frozen=True, slots=True)
class TrackedText:
    """A text.

    Attributes:
        name: it was tracked under.
        step: the global step.
        text: the text.
        is_cut: it was too long for the log, and this is its begin.
    """

    name: str
    step: int
    text: str
    is_cut: bool

    kind = "text"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the text, UTF-8, and return the path; missing folders are made."""
        return _write(path, self.text.encode())


@dataclass(frozen=True, slots=True)
class TrackedHistogram:
    """How numbers, such as a layer's weights, are distributed.

    Attributes:
        name: it was tracked under.
        step: the global step.
        edges: rising bounds of the bins, over the finite numbers: one more than there are bins.
        counts: how many numbers are in each bin.
        num_values: how many numbers there were, finite or not.
        sum: of the finite ones.
        sum_squares: of the finite ones.
        num_nan: how many were no number.
        num_infinite: how many were infinite.
        is_cut: always False.
    """

    name: str
    step: int
    edges: Sequence[float]
    counts: Sequence[int]
    num_values: int
    sum: float
    sum_squares: float
    num_nan: int
    num_infinite: int
    is_cut: bool

    kind = "histogram"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write edges, counts and sums as JSON and return the path; missing folders are made."""
        names = ("edges", "counts", "num_values", "sum", "sum_squares", "num_nan", "num_infinite")
        return _write(path, json.dumps({name: getattr(self, name) for name in names}).encode())


@dataclass(frozen=True, slots=True)
class IndexedValues:
    """Numbers by an index, such as the loss of each sample.

    Attributes:
        name: they were tracked under.
        step: the global step.
        indices: the indices.
        values: as many numbers.
        is_cut: there were too many for the log, and these are the first.
    """

    name: str
    step: int
    indices: Sequence[int] = field(repr=False)
    values: Sequence[float] = field(repr=False)
    is_cut: bool

    kind = "indexed"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write indices and values as JSON and return the path; missing folders are made."""
        return _write(path, json.dumps({"indices": self.indices, "values": self.values}).encode())


MediaItem: TypeAlias = TrackedImage | TrackedText | TrackedHistogram | IndexedValues


@dataclass(frozen=True, slots=True)
class Media:
    """Images, texts, histograms and indexed values were tracked."""

    items: tuple[MediaItem, ...]


def _write(path: str | os.PathLike[str], data: bytes) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target
