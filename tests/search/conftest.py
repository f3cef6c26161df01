"""Rigs for tests of searches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.search.rig import SearchRig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SearchRig]:
    """A rig that is open."""
    made = SearchRig(tmp_path)
    await made.open()
    yield made
    await made.close()
