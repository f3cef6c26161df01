"""What tests of every area share: one real server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RealServer, start_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server with two CPU slots and the experiments of tests/experiments.py."""
    started = start_server(
        tmp_path_factory.mktemp("lab-home"),
        *("--slots", "cpu:2", "--experiments", str(Path(__file__).with_name("experiments.py"))),
    )
    yield started
    started.stop()
