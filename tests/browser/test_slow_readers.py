"""Hundreds of connections that ask and do not read, and a page beside them that stays live."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import lab_client
from tests.browser.conftest import Windows
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

NUM_READERS = 300
FILE_BYTES = 8 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    experiments = str(Path(__file__).with_name("steered.py"))
    started = start_server(
        tmp_path / "home", "--experiments", experiments, "--max-streams", str(NUM_READERS + 10)
    )
    yield started
    started.stop()


def _reader(server: RealServer, path: str) -> socket.socket:
    """Return a connection that has asked for something, and reads nothing but the answer's first bytes."""
    host, port = server.http_url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_a_page_stays_live_beside_300_slow_readers(
    server: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    with lab_client.Client(server.address) as client:
        done = client.create("steered", {"file": steer(1, 0), "loop_count": 3}).start().wait()
        log = next((server.home / "runs").rglob(f"{done.id}/log.txt"))
        log.write_bytes(b"x" * FILE_BYTES)
        run = client.create("steered", {"file": steer(1, 0.1), "loop_count": 150}).start()
        before = psutil.Process(server.process.pid).memory_info().rss
        with contextlib.ExitStack() as stack:
            for index in range(NUM_READERS):
                path = "events" if index % 2 else f"runs/{done.id}/files/log.txt"
                stack.enter_context(_reader(server, f"/api/v1/{path}"))
            page = windows.open(f"{server.http_url}/runs/{run.id}")
            page.locator("#live").get_by_text("live", exact=True).wait_for()
            page.locator("#log", has_text="line 3").wait_for()
            steer(1, 0)
            page.locator("#status .state.completed").wait_for()
            page.locator("#log", has_text="line 150").wait_for()
            page.locator("figure.chart[data-metric=loss] canvas").wait_for()
            after = psutil.Process(server.process.pid).memory_info().rss
        # each has a piece of what it asked for, not all of it
        assert after - before < NUM_READERS * FILE_BYTES / 8
        page.goto(server.http_url)
        page.locator(f"#run-{run.id} .state.completed").wait_for()
