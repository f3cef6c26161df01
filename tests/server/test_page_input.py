"""Bad addresses and forms: each gets a page with a sentence."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from lab_server.model.run import RunState
from tests.server.conftest import Surface
from tests.server.sites import get_page, send_form


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nothing", 404, "there is no page &#39;/nothing&#39;"),
        ("/runs/nothing", 404, "there is no run &#39;nothing&#39;"),
        ("/runs/%ff%00<b>", 404, "there is no run"),
        ("/?state=DONE", 400, "&#39;DONE&#39; is not a state of a run"),
        ("/?sort=max(", 400, "order_by"),
        ("/?page=x", 400, "page_token must be the next_page_token"),
        ("/?m=" + ",".join("abcdefghijklmn"), 400, "at most 12 columns"),
        ("/?q=loss+<", 400, "where: expected"),
        ("/?q=%ed%a0%80", 400, "q"),
        ("/static/x/style.css.map", 404, "there is no such file"),
        ("/static/x/../../server.py", 404, "there is no page"),
        ("/static/x/..%2fserver.py", 404, "there is no such file"),
    ],
)
async def test_a_bad_address_gets_a_page_with_a_sentence(
    site: aiohttp.ClientSession, path: str, status: int, sentence: str
) -> None:
    found, text = await get_page(site, path)
    assert (found, sentence in text) == (status, True), text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("path", "fields", "status", "sentence"),
    [
        ("/runs/RUN/explode", {}, 404, "there is no action &#39;explode&#39;"),
        ("/runs/x/start", {}, 404, "there is no run"),
        ("/runs/RUN/stop", {}, 409, "has ended"),
        ("/runs/RUN/resume", {"until_step": "ten"}, 400, "until_step must be a whole number"),
        ("/runs/RUN/resume", {"until_step": "9" * 40}, 409, ""),
        ("/runs/RUN/update", {"name": ""}, 400, "name must not be empty"),
        ("/runs/RUN/update", {"name": "a\u0007"}, 400, "must not contain control characters"),
        ("/runs", {"action": "stop"}, 400, "select the runs first"),
        ("/runs", {"action": "start", "runs": "RUN"}, 404, "there is no action"),
    ],
)
async def test_a_bad_form_gets_a_page_with_a_sentence(
    surface: Surface,
    site: aiohttp.ClientSession,
    path: str,
    fields: Any,
    status: int,
    sentence: str,
) -> None:
    run = await surface.run(RunState.COMPLETED)
    fields = {name: text.replace("RUN", run.id) for name, text in fields.items()}
    found, text = await send_form(site, path.replace("RUN", run.id), fields)
    assert (found, sentence in text) == (status, True), text


async def test_what_is_no_form_is_refused(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await surface.run()
    async with site.post(f"/runs/{run.id}/start", json={}) as response:
        assert response.status == 415
    charset = {"Content-Type": "application/x-www-form-urlencoded; charset=klingon"}
    async with site.post(f"/runs/{run.id}/start", data=b"a=b", headers=charset) as response:
        assert response.status == 400


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/new?experiment=nothing", 404),
        ("/new?experiment=broken", 409),
        ("/new?parent=nothing", 404),
        ("/searches/nothing", 404),
        ("/searches?page=x", 400),
    ],
)
async def test_what_is_not_there_gets_a_page(
    site: aiohttp.ClientSession, path: str, status: int
) -> None:
    assert (await get_page(site, path))[0] == status
