"""What tests of every area share: one real server for the whole session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres, start_postgres
from tests.servers import RealServer, start_server

# Background jobs of scripts, and thus some CI runners, inherit an ignored SIGINT or SIGHUP, which Python and every
# process started here would keep: then no test could interrupt or end anything.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests share the cores with other tests and with the servers and trainers of all of them. Threads that spin while
# they wait take the cores from those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the store for the tests in which processes die."""
    parser.addoption(
        "--store",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="store of the tests in tests/runs",
    )


@pytest.fixture
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store on PostgreSQL, empty for SQLite in the server's home."""
    if request.config.getoption("--store") == "sqlite":
        return ""
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_url()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server with two CPU slots and the experiments of tests/experiments.py."""
    started = start_server(
        tmp_path_factory.mktemp("lab-home"),
        *("--slots", "cpu:2", "--experiments", str(Path(__file__).with_name("experiments.py"))),
    )
    yield started
    started.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this session's own."""
    started = start_postgres()
    yield started
    started.remove()
