"""`lab dashboard`, against a real server with tokens."""

from __future__ import annotations

import re
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import unquote, urlencode

import pytest
from typer.testing import CliRunner

from lab_client.cli.app import app
from lab_client.cli.dashboard import logged_in, reachable
from lab_client.runs import Dashboard
from lab_server.model.roles import Role
from lab_server.security.tokens import TokenFile
from tests.servers import RealServer, start_server


@pytest.mark.slow
def test_the_link_of_lab_dashboard_logs_in_once(tmp_path: Path) -> None:
    token = TokenFile(tmp_path / "tokens.json").create("vera", Role.VIEWER)
    server = start_server(tmp_path / "home", "--tokens", str(tmp_path / "tokens.json"))
    try:
        arguments = ["--server", server.address, "--token", token, "dashboard", "--no-open"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert done.output.splitlines()[0] == f"{server.http_url}/"
        code = re.search(r"/login\?next=%2F#code=(\S+)", done.output)
        assert code is not None
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        form = urlencode({"code": unquote(code[1]), "next": "/server"}).encode()
        with opener.open(f"{server.http_url}/login", form, timeout=30) as page:
            assert "vera, viewer" in page.read().decode()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(f"{server.http_url}/login", form, timeout=30)
        assert f'"url": "{server.http_url}"' in server.log.read_text()
    finally:
        server.stop()


def test_a_server_without_tokens_needs_no_login(server: RealServer) -> None:
    done = CliRunner().invoke(app, ["--server", server.address, "dashboard", "--no-open"])
    assert (done.exit_code, done.output) == (0, f"{server.http_url}/\n")
    done = CliRunner().invoke(app, ["--server", server.address, "dashboard", "nothing"])
    assert done.exit_code == 2
    assert "there is no run 'nothing'" in done.output


@pytest.mark.slow
def test_a_server_without_a_dashboard_says_so(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", "--no-dashboard")
    try:
        done = CliRunner().invoke(app, ["--server", server.address, "dashboard"])
        assert done.exit_code == 2
        assert "it was started with --no-dashboard" in done.output
        with urllib.request.urlopen(f"{server.http_url}/healthz", timeout=30) as page:
            assert page.status == 200
        for path in ("/", "/api/v1/runs", "/login"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(server.http_url + path, timeout=30)
    finally:
        server.stop()


def test_a_server_that_listens_everywhere_is_reached_as_grpc_is() -> None:
    assert reachable("https://0.0.0.0:8080", "gpu.test:50051") == "https://gpu.test:8080"
    assert reachable("https://[::]:8080", "[fe80::1]:50051") == "https://[fe80::1]:8080"
    assert reachable("http://127.0.0.1:8080", "gpu.test:50051") == "http://127.0.0.1:8080"
    assert reachable("http://0.0.0.0:8080", "a.test:50051,b.test:50051") == "http://a.test:8080"
    assert reachable("http://0.0.0.0:8080", "unix:/run/lab.sock") == "http://localhost:8080"


def test_the_code_is_in_the_fragment_and_the_page_in_the_query() -> None:
    found = Dashboard("http://h:1", "a/b")
    assert logged_in(found, "/runs/x") == "http://h:1/login?next=%2Fruns%2Fx#code=a%2Fb"
    assert "a/b" not in repr(found)
