"""Random seeds as functions of a search and a trial, so that the same search gives the same trials."""

from __future__ import annotations

import hashlib

_BYTES = 6  # all of a seed fits into a double, which JSON's numbers are


def trial_seed(search_seed: int, number: int) -> int:
    """Return what seeds a trial's proposal, and its run where the experiment sets no seed itself."""
    digest = hashlib.sha256(f"lab-train search {search_seed} trial {number}".encode()).digest()
    return int.from_bytes(digest[:_BYTES])
