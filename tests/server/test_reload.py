"""`lab-server reload`, and the setting that switches the look for edits off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab_client import Client
from tests.servers import start_server

pytestmark = pytest.mark.slow

TOY = """
from lab_core.configs import BaseConfigs

class Configs(BaseConfigs):
    size: int = 1

    def run(self) -> None: ...
"""


def reload(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab_server", "reload", "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    answer = reload(tmp_path)
    assert answer.returncode == 2
    assert f"no server runs on home={tmp_path}" in answer.stderr


def test_a_pid_file_of_a_server_that_is_gone_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "server.pid").write_text('{"pid": 1, "start_ticks": 1}')
    assert reload(tmp_path).returncode == 2


def test_it_brings_an_edit_where_the_look_for_edits_is_off(tmp_path: Path) -> None:
    source = tmp_path / "toy.py"
    source.write_text(TOY)
    server = start_server(tmp_path / "home", "--experiments", str(source), "--no-auto-reload")
    try:
        with Client(server.address, timeout_s=60) as client:

            def size() -> object:
                return client.plan("toy").values["size"]

            assert size() == 1
            source.write_text(TOY.replace("= 1", "= 2"))
            assert size() == 1

            answer = reload(server.home)

            assert answer.returncode == 0, answer.stderr
            assert str(server.process.pid) in answer.stdout
            # the signal may come after the next question
            while size() == 1:
                assert server.process.poll() is None
            assert size() == 2
    finally:
        server.stop()
    assert not (server.home / "server.pid").exists()
