"""What an agent says when there is no server that it can join."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab_core.errors import SettingsError
from lab_server.agent.home import AgentHome
from lab_server.agent.joining import joined
from lab_server.agent.link import Tls
from lab_server.agent.options import Options
from lab_server.agent.servers import GivenServers
from lab_server.model.slot import Slot


def options_for(address: str, home: Path) -> Options:
    return Options(
        servers=GivenServers([address]),
        name="a1",
        pool="",
        token="",
        slots=(Slot("cpu:0", "cpu"),),
        experiments=(),
        home=home,
        tls_files=None,
        on_shutdown="stop",
    )


@pytest.mark.parametrize("has_tls", [False, True])
async def test_an_agent_that_reaches_no_server_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_tls: bool
) -> None:
    monkeypatch.setattr("lab_server.agent.joining._JOIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    home = AgentHome(tmp_path)
    with home.opened(), pytest.raises(SettingsError) as caught:
        await joined(options_for(address, tmp_path), home, Tls() if has_tls else None)
    said = str(caught.value)
    assert f"no server to join: {address}: " in said
    assert "onnection refused" in said
    assert ("give --ca or --tls" in said) == (not has_tls)
