"""Each test has a loop of its own: what a run leaves in it, by plan or by failing, ends with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab_core import loop


@pytest.fixture(autouse=True)
def fresh_loop() -> Iterator[None]:
    before = loop.current()
    loop.set_current(loop.Loop())
    yield
    loop.set_current(before)
