"""The PostgreSQL of the tests' own."""

from __future__ import annotations

import pytest
from local_postgres import MISSING, Postgres
from local_postgres import start_postgres as _start

__all__ = ["Postgres", "start_postgres"]


def start_postgres() -> Postgres:
    """Start a server; skip the test where PostgreSQL is not installed."""
    started = _start()
    if started is None:
        pytest.skip(MISSING)
    return started
