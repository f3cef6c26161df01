"""How much of its images, texts, histograms and indexed values a run's log takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Bounds that keep a run's log small, however often and however much it tracks.

    Attributes:
        dense_items: of each name so many are taken one by one; later ones are thinned, so that the gap
            between two is about the `dense_items`-th part of all that came before.
        max_bytes: all that an attempt may send; 0 for nothing at all.
    """

    dense_items: int = 100
    max_bytes: int = 64 << 20
