"""A tracker whose writer keeps everything in memory, as the current one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab_core import loop, tracker
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


@pytest.fixture(autouse=True)
def fresh_loop() -> Iterator[None]:
    before = loop.current()
    loop.set_current(loop.Loop())
    yield
    loop.set_current(before)


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
