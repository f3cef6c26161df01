"""Metrics in memory, for tests and for inspection without files."""

from __future__ import annotations

from lab_core.writers.base import Batch, HistogramPoint, ImagePoint, IndexedPoint, TextPoint


class MemoryWriter:
    """Keeps all it is given.

    Attributes:
        scalars: the points of each scalar, (step, value), in the order they came.

    Example:
        >>> from lab_core.tracker import Tracker
        >>> kept = MemoryWriter()
        >>> with Tracker([kept]) as tracker:
        ...     tracker.save(1, loss=0.5)
        >>> kept.scalars
        {'loss': [(1, 0.5)]}
    """

    name = "memory"

    def __init__(self) -> None:
        self.scalars: dict[str, list[tuple[int, float]]] = {}
        self.histograms: list[HistogramPoint] = []
        self.indexed: list[IndexedPoint] = []
        self.texts: list[TextPoint] = []
        self.images: list[ImagePoint] = []
        self.num_batches = 0
        self.is_closed = False

    def write(self, batch: Batch) -> None:
        """Keep a batch."""
        self.num_batches += 1
        for column in batch.columns:
            points = zip(column.steps, column.values, strict=True)
            self.scalars.setdefault(column.name, []).extend(points)
        self.histograms += batch.histograms
        self.indexed += batch.indexed
        self.texts += batch.texts
        self.images += batch.images

    def close(self) -> None:
        """Set `is_closed`; the metrics are kept."""
        self.is_closed = True
