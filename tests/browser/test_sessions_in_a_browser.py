"""Who may do what in a real browser: logging in, roles, revoked tokens, and other sites' pages."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lab_client
from lab_server.model.roles import Role
from lab_server.security.tokens import TokenFile
from tests.browser.axe import violations
from tests.browser.conftest import WAIT_S, Windows
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow


@dataclass
class Guarded:
    """A server with tokens, and a run of its operator's that has not started."""

    server: RealServer
    tokens: TokenFile
    operator: str
    run_id: str

    def log_in(self, windows: Windows, token: str, path: str = "/") -> Any:
        """Return a page after its login."""
        page = windows.open(self.server.http_url + path)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
        return page


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("guarded")
    tokens = TokenFile(home / "tokens.json")
    operator = tokens.create("olga", Role.OPERATOR)
    experiments = str(Path(__file__).parents[1] / "experiments.py")
    server = start_server(
        home / "home", "--experiments", experiments, "--tokens", str(home / "tokens.json")
    )
    with lab_client.Client(server.address, token=operator, timeout_s=WAIT_S) as client:
        run = client.create("counting")
    yield Guarded(server, tokens, operator, run.id)
    server.stop()


def test_a_token_logs_in_and_leads_to_the_page_that_was_asked_for(
    guarded: Guarded, windows: Windows
) -> None:
    page = windows.open(f"{guarded.server.http_url}/runs/{guarded.run_id}")
    assert violations(page) == []
    page.get_by_label("Token").fill("lab_00000000_wrong")
    page.get_by_role("button", name="Log in").click()
    assert "does not know that token" in page.get_by_role("alert").inner_text()
    page.get_by_label("Token").fill(guarded.operator)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="counting").wait_for()
    assert page.evaluate("document.cookie") == "", "scripts do not see it"
    page.get_by_role("button", name="Log out").click()
    page.goto(guarded.server.http_url)
    page.get_by_label("Token").wait_for()


def test_the_link_of_lab_dashboard_logs_in_and_leaves_no_code_behind(
    guarded: Guarded, windows: Windows
) -> None:
    with lab_client.Client(
        guarded.server.address, token=guarded.operator, timeout_s=WAIT_S
    ) as client:
        door = client.dashboard()
    page = windows.open(f"{door.url}/login?next=%2Fserver#code={door.code}")
    page.get_by_role("heading", name="Server").wait_for()
    page.get_by_role("banner").get_by_text("olga, operator").wait_for()
    page.go_back()
    assert "code" not in page.url


def test_a_viewer_is_offered_nothing_to_change_and_cannot_start_a_run(
    guarded: Guarded, windows: Windows
) -> None:
    mine = guarded.log_in(windows, guarded.operator, f"/runs/{guarded.run_id}")
    guarded_start = mine.get_by_role("button", name="Start")
    token = guarded.tokens.create("vera", Role.VIEWER)
    page = guarded.log_in(windows, token, f"/runs/{guarded.run_id}")
    buttons = page.get_by_role("main").get_by_role("button").all_inner_texts()
    assert buttons == ["TensorBoard"]
    assert violations(page) == []
    # a page that was opened before her role was lowered still has the button
    cookies = page.context.cookies()
    mine.context.clear_cookies()
    mine.context.add_cookies(cookies)
    guarded_start.click()
    mine.get_by_text("vera has the role viewer; StartRun needs operator").wait_for()
    assert violations(mine) == []


def test_a_revoked_token_ends_the_open_stream_and_says_so(
    guarded: Guarded, windows: Windows
) -> None:
    token = guarded.tokens.create("vera", Role.VIEWER)
    page = guarded.log_in(windows, token)
    live = page.locator("#live")
    live.get_by_text("live", exact=True).wait_for()
    guarded.tokens.revoke(token.split("_")[1])
    live.get_by_text("the token was revoked").wait_for()


def test_a_page_on_another_port_of_the_host_starts_nothing(
    guarded: Guarded, windows: Windows, tmp_path: Path
) -> None:
    target = f"{guarded.server.http_url}/runs/{guarded.run_id}/start"
    (tmp_path / "index.html").write_text(f"<form method=post action={target}><button>Win</button>")

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments: Any) -> None:
            pass

    page = guarded.log_in(windows, guarded.operator)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        page.get_by_role("button", name="Win").click()
        page.get_by_text("a page of another site may not do this").wait_for()
        other.shutdown()
    page.goto(f"{guarded.server.http_url}/runs/{guarded.run_id}")
    assert page.locator("#status .state.created").count() == 1


def test_another_name_that_leads_here_shows_nothing(guarded: Guarded, windows: Windows) -> None:
    port = guarded.server.http_url.rpartition(":")[2]
    page = windows.window().new_page()
    page.goto(f"http://evil.test:{port}/")
    page.get_by_text(f"this server is not 'evil.test:{port}'").wait_for()
