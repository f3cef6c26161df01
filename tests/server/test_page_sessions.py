"""Who gets a page: sessions by token and code, and nothing for other sites."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from lab_server.model.roles import Role
from lab_server.model.run import RunRequest, RunState
from lab_server.security.sessions import Sessions
from lab_server.security.tokens import TokenFile, Tokens
from tests.server.conftest import Surface, open_site, open_surface
from tests.server.sites import get_page, send_form


async def test_every_page_forbids_what_it_does_not_need(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run()
    for path in ("/", f"/runs/{run.id}", "/server", "/nothing"):
        async with site.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            text = await response.text()
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"<script>|\son\w+=|javascript:|\sstyle=", text), "no inline code"


@pytest.mark.parametrize("path", ["/", "/server", "/login", "/nothing"])
async def test_another_hosts_name_gets_no_page(site: aiohttp.ClientSession, path: str) -> None:
    status, text = await get_page(site, path, Host="evil.test")
    assert status == 421
    assert "evil.test" in text


@pytest.mark.parametrize("site_of_page", ["same-site", "cross-site"])
async def test_a_form_on_another_sites_page_does_nothing(
    surface: Surface, site: aiohttp.ClientSession, site_of_page: str
) -> None:
    run = await surface.run()
    headers = {"Sec-Fetch-Site": site_of_page}
    assert (await send_form(site, f"/runs/{run.id}/start", **headers))[0] == 403
    assert (await surface.supervisor.get(run.id)).state is RunState.CREATED


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


async def _log_in(site: aiohttp.ClientSession, token: str) -> tuple[int, str]:
    return await send_form(site, "/login", {"token": token, "next": "/server"})


async def test_a_token_opens_a_session_that_ends_with_it(
    tmp_path: Path, token_file: TokenFile
) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        async with site.get("/runs/x?a=1", allow_redirects=False) as response:
            assert response.headers["Location"] == "/login?next=/runs/x?a%3D1"
        status, text = await _log_in(site, "lab_00000000_wrong")
        assert (status, "does not know that token" in text) == (401, True)
        assert await _log_in(site, token) == (303, "/server")
        cookie = next(iter(site.cookie_jar))
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert token not in cookie.value
        status, text = await get_page(site, "/server")
        assert (status, "vera, viewer" in text) == (200, True)
        async with site.get("/api/v1/server") as response:
            assert (await response.json())["principal"] == "vera"
        token_file.revoke(token.split("_")[1])
        status, text = await get_page(site, "/server")
        assert (status, "the token was revoked" in text) == (401, True)


async def test_a_viewer_cannot_stop_a_run(tmp_path: Path, token_file: TokenFile) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        await _log_in(site, token)
        request = RunRequest("mnist")
        run = await surface.supervisor.create(
            request, owner="olga", config_hash="", key=None, fingerprint=""
        )
        run = await surface.supervisor.move(run, RunState.RUNNING)
        status, text = await send_form(site, f"/runs/{run.id}/stop")
        assert (status, "vera has the role viewer; StopRun needs operator" in text) == (403, True)
        assert (await surface.supervisor.get(run.id)).state is RunState.RUNNING


async def test_a_one_time_code_opens_one_session(tmp_path: Path, token_file: TokenFile) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        code = surface.site.sessions.new_code(f"Bearer {token}")
        assert (await send_form(site, "/login", {"code": code, "next": "//evil.test"})) == (
            303,
            "/",
        )
        assert (await get_page(site, "/server"))[0] == 200
        site.cookie_jar.clear()
        status, text = await send_form(site, "/login", {"code": code})
        assert (status, "this link was used" in text) == (401, True)
        await send_form(site, "/logout")
        assert "Log in" in (await get_page(site, "/"))[1]


async def test_a_cookie_that_was_changed_or_is_anothers_opens_nothing(
    tmp_path: Path, token_file: TokenFile
) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        sealed = surface.site.sessions.seal(f"Bearer {token}")
        other = Sessions(b"another server", is_https=False).seal(f"Bearer {token}")
        for cookie in (sealed[:-6] + "AAAA==", other, "x", "ä", token):
            async with site.get("/api/v1/server", headers={"Cookie": f"lab={cookie}"}) as response:
                assert response.status == 401
        async with site.get("/api/v1/server", headers={"Cookie": f"lab={sealed}"}) as response:
            assert response.status == 200


def test_over_https_the_cookie_belongs_to_this_host_alone() -> None:
    assert Sessions(b"x", is_https=True).cookie_name == "__Host-lab"
