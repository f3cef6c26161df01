"""A tracker whose writer keeps everything in memory, as the current one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab_core import tracker
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


@pytest.fixture
def saved() -> Iterator[Saved]:
    """Start a tracker; the fixture is called for what its writer has by then."""
    writer = MemoryWriter()
    current = tracker.set_current(tracker.Tracker([writer]))
    current.start()

    def flushed() -> MemoryWriter:
        assert current.flush()
        return writer

    yield flushed
    current.close()
    tracker.set_current(None)
