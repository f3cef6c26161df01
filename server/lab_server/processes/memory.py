"""Gives memory that is free back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl has none, and keeps less
        return None
    return trim


def trim() -> None:
    """Give back the pages that the C library has free; glibc keeps them, and its threads' too."""
    malloc_trim = _malloc_trim()
    if malloc_trim is not None:
        malloc_trim(0)
