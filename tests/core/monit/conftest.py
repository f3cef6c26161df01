"""A console in memory in place of the process's."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from lab_core.logger.sinks import Sink, set_sink


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    file = io.StringIO()
    set_sink(Sink(file))
    yield file
    set_sink(None)
