"""The pages as a browser without JavaScript gets them: what they show, who may, and what bad input gets."""

from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import lab_server.pages
from lab_core.configs import PlainValue, Schema, SchemaItem
from lab_server.files.log_levels import RECORD
from lab_server.messages import events
from lab_server.model.agent import Gpus, Hello
from lab_server.model.gpu import GpuReading
from lab_server.model.log_level import LogLevel
from lab_server.model.roles import Role
from lab_server.model.run import RunRequest, RunState
from lab_server.model.slot import Slot
from lab_server.security.tokens import TokenFile, Tokens
from lab_server.store import RunQuery
from tests.server.conftest import Surface, open_site, open_surface
from tests.server.test_api_streams import Column

STATIC = Path(lab_server.pages.__file__).with_name("static")
EVIL = '<img src=x onerror="alert(1)">\u202egnp.exe'


async def _page(site: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with site.get(path, headers=headers) as response:
        assert response.content_type == "text/html"
        return response.status, await response.text()


async def _send(
    site: aiohttp.ClientSession, path: str, fields: Any = None, **headers: str
) -> tuple[int, str]:
    form = aiohttp.FormData(fields or {"x": ""})
    async with site.post(path, data=form, headers=headers, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", "") or await response.text()


# ---- what they show


async def test_the_runs_are_a_table_with_the_configs_that_differ(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for rate in (0.1, 0.2):
        overrides = {"learning_rate": {"double_value": rate}, "epochs": {"int_value": 3}}
        run = await surface.run(RunState.RUNNING, config={"overrides": overrides}, tags=["grid"])
        column = Column("loss", [1], [rate])
        told = [*events.encode_metrics(1, 1, [column]), events.encode_progress(1, 1, 30, 120, 4.5)]
        await surface.supervisor.say(run, *told)
    status, text = await _page(site, "/")
    assert status == 200
    head = text[text.index("<thead>") : text.index("</thead>")]
    assert "learning_rate" in head
    assert "epochs" not in head, "equal in all runs"
    assert "loss" in head
    assert "30 of 120" in text
    assert ">0.2<" in text
    _, grouped = await _page(site, "/?group=-learning_rate&m=loss")
    assert "0.15 ± 0.07071" in grouped
    _, filtered = await _page(site, "/?state=COMPLETED&tag=grid")
    assert "No runs match" in filtered
    _, ordered = await _page(site, "/?sort=metrics.loss")
    assert 'aria-sort="ascending"' in ordered


async def test_a_long_fraction_is_shortened_in_the_table_and_whole_on_the_runs_page(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for rate in (0.010886575324083514, 123456789012):
        overrides = {"learning_rate": {"double_value": rate}}
        run = await surface.run(config={"overrides": overrides}, tags=["1.234567890123"])
    _, text = await _page(site, "/")
    assert "<bdi>0.0108866</bdi>" in text
    assert "<bdi>123457" not in text, "whole numbers stay"
    assert "<bdi>1.234567890123</bdi>" in text, "tags are text"
    _, text = await _page(site, f"/runs/{run.id}")
    assert "learning_rate=123456789012.0" in text


async def test_more_runs_than_a_page_has_are_on_the_next(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for number in range(101):
        await surface.run(name=f"number {number}", tags=["many"])
    _, first = await _page(site, "/?tag=many")
    assert first.count("<bdi>number ") == 100
    link = re.search(r'href="(/[^"]*page=[^"]*)">Next page', first)
    assert link is not None
    status, second = await _page(site, html.unescape(link[1]))
    assert (status, second.count("<bdi>number ")) == (200, 1)
    assert "<bdi>number 0</bdi>" in second
    assert "Next page" not in second


async def test_a_runs_page_has_its_log_configs_history_and_files(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    config = {"overrides": {"epochs": {"int_value": 3}}}
    run = await surface.run(RunState.RUNNING, config=config, name="first", notes="a\nb")
    folder = surface.home / "runs" / "mnist" / run.id
    (folder / "checkpoints" / "20").mkdir(parents=True)
    (folder / "checkpoints" / "20" / "model.pt").write_bytes(b"x" * 2000)
    (folder / "log.txt").write_text("step 1 <b>\nlook <i>\n")
    (folder / "log.levels").write_bytes(RECORD.pack(11, 9, LogLevel.WARNING))
    (folder / "source.diff").write_text("+ changed\n")
    await surface.supervisor.say(run, events.encode_checkpoint(1, 1, 20))
    _, text = await _page(site, f"/runs/{run.id}")
    warned = '<span class="warning"><span class="level">warning</span> look &lt;i&gt;</span>\n'
    assert f"step 1 &lt;b&gt;\n{warned}</pre>" in text
    assert re.search(
        r'<tr class="override"><th scope="row" class="key">epochs</th>.*?>3<.*?passes over', text
    )
    assert "lab run mnist epochs=3" in text
    assert "client.create(&#39;mnist&#39;, {&#39;epochs&#39;: 3}).start()" in text
    assert f"/new?parent={run.id}&amp;step=20" in text
    assert "+ changed" in text
    assert "Save and stop" in text
    _, text = await _page(site, f"/runs/{run.id[:-1]}")
    assert "first" in text, "a prefix leads to the run"


async def test_what_changes_of_a_run_is_asked_for_without_the_rest(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING, notes="only on the whole page")
    column = Column("loss", [1], [0.25])
    told = [*events.encode_metrics(1, 1, [column]), events.encode_progress(1, 1, 30, 120, 4.5)]
    run = await surface.supervisor.say(run, *told)
    _, whole = await _page(site, f"/runs/{run.id}")
    status, now = await _page(site, f"/runs/{run.id}/now")
    assert status == 200
    shown = re.compile(r'<div id="status".*?</div>', re.DOTALL)
    assert shown.findall(now) == shown.findall(whole)
    assert "30 of 120" in now
    assert "[&#34;loss&#34;]" in now
    assert "only on the whole page" not in now
    assert "0.25" not in now
    _, with_values = await _page(site, f"/runs/{run.id}/now?values=1")
    assert "0.25" in with_values
    assert (await _page(site, "/runs/nothing/now"))[0] == 404


async def test_the_server_tells_its_slots_and_queue(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    await surface.run(RunState.RUNNING, name="trains")
    await surface.run(RunState.QUEUED, name="waits")
    _, text = await _page(site, "/server")
    assert re.search(r"cpu:0</th>\s*<td><a [^>]*><bdi>trains", text)
    assert re.search(r'<td class="num">1</td><th scope="row"><a [^>]*><bdi>waits', text)


async def test_slots_and_gpus_of_agents_are_shown_with_agent_and_pool(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    _, text = await _page(site, "/server")
    assert "this server" not in text, "no columns for what is not there"
    remote = Slot("a100s/node1/cuda:0#1", "cuda:0", "a100s")
    surface.executor.slots = (*surface.executor.slots, remote)
    agent = surface.agents.attach("node1", "a100s", Hello("1", ()), lambda _: None)
    surface.agents.receive(agent, Gpus((GpuReading("cuda:0", 0.25, 2e9, 8e9, None, 71.0),)))
    _, text = await _page(site, "/server")
    assert re.search(r"cpu:0</th>\s*<td>this server</td><td></td>", text)
    assert re.search(r"cuda:0#1</th>\s*<td>node1</td><td>a100s</td>", text)
    assert re.search(r'cuda:0</th>\s*<td>node1</td><td>a100s</td>\s*<td class="num">25 %', text)
    assert "2 GB of 8 GB" in text
    assert "71 W" in text


@pytest.mark.slow
async def test_text_of_users_is_text_and_does_not_turn_what_is_beside_it(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    # no control characters in names; a format character such as U+202E may be there
    run = await surface.run(name=EVIL, tags=[EVIL], notes=EVIL)
    for path in ("/", f"/runs/{run.id}"):
        _, text = await _page(site, path)
        assert "<img src=x" not in text
        assert "<bdi>&lt;img src=x onerror=&#34;alert(1)&#34;&gt;\u202egnp.exe</bdi>" in text


async def test_buttons_do_what_the_api_does(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await surface.run()
    fields = {"name": "new", "tags": "a, b ,", "notes": "one\r\ntwo"}
    await _send(site, f"/runs/{run.id}/update", fields)
    request = (await surface.supervisor.get(run.id)).request
    assert (request.name, request.tags, request.notes) == ("new", ("a", "b"), "one\ntwo")
    assert await _send(site, f"/runs/{run.id}/start") == (303, f"/runs/{run.id}")
    assert (await surface.supervisor.get(run.id)).state is RunState.QUEUED
    run = await surface.supervisor.move(await surface.supervisor.get(run.id), RunState.COMPLETED)
    assert await _send(site, f"/runs/{run.id}/delete") == (303, "/")
    assert (await _page(site, f"/runs/{run.id}"))[0] == 404


async def test_what_cannot_be_done_to_some_selected_runs_is_told(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    done = await surface.run(RunState.COMPLETED)
    busy = await surface.run(RunState.RUNNING)
    fields = [("action", "delete"), ("runs", done.id), ("runs", busy.id), ("next", "/?q=a")]
    status, text = await _send(site, "/runs", fields)
    assert status == 409
    assert "1 done, 1 not" in text
    assert (await _page(site, f"/runs/{done.id}"))[0] == 404
    assert (await _page(site, f"/runs/{busy.id}"))[0] == 200


# ---- bad input


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
    found, text = await _page(site, path)
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
    found, text = await _send(site, path.replace("RUN", run.id), fields)
    assert (found, sentence in text) == (status, True), text


async def test_what_is_no_form_is_refused(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await surface.run()
    async with site.post(f"/runs/{run.id}/start", json={}) as response:
        assert response.status == 415
    charset = {"Content-Type": "application/x-www-form-urlencoded; charset=klingon"}
    async with site.post(f"/runs/{run.id}/start", data=b"a=b", headers=charset) as response:
        assert response.status == 400


# ---- security


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
    status, text = await _page(site, path, Host="evil.test")
    assert status == 421
    assert "evil.test" in text


@pytest.mark.parametrize("site_of_page", ["same-site", "cross-site"])
async def test_a_form_on_another_sites_page_does_nothing(
    surface: Surface, site: aiohttp.ClientSession, site_of_page: str
) -> None:
    run = await surface.run()
    headers = {"Sec-Fetch-Site": site_of_page}
    assert (await _send(site, f"/runs/{run.id}/start", **headers))[0] == 403
    assert (await surface.supervisor.get(run.id)).state is RunState.CREATED


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


async def _log_in(site: aiohttp.ClientSession, token: str) -> tuple[int, str]:
    return await _send(site, "/login", {"token": token, "next": "/server"})


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
        status, text = await _page(site, "/server")
        assert (status, "vera, viewer" in text) == (200, True)
        async with site.get("/api/v1/server") as response:
            assert (await response.json())["principal"] == "vera"
        token_file.revoke(token.split("_")[1])
        status, text = await _page(site, "/server")
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
        status, text = await _send(site, f"/runs/{run.id}/stop")
        assert (status, "vera has the role viewer; StopRun needs operator" in text) == (403, True)
        assert (await surface.supervisor.get(run.id)).state is RunState.RUNNING


async def test_a_one_time_code_opens_one_session(tmp_path: Path, token_file: TokenFile) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        code = surface.site.sessions.new_code(f"Bearer {token}")
        assert (await _send(site, "/login", {"code": code, "next": "//evil.test"})) == (303, "/")
        assert (await _page(site, "/server"))[0] == 200
        site.cookie_jar.clear()
        status, text = await _send(site, "/login", {"code": code})
        assert (status, "this link was used" in text) == (401, True)
        await _send(site, "/logout")
        assert "Log in" in (await _page(site, "/"))[1]


async def test_a_cookie_that_was_changed_or_is_anothers_opens_nothing(
    tmp_path: Path, token_file: TokenFile
) -> None:
    token = token_file.create("vera", Role.VIEWER)
    tokens = Tokens(tmp_path / "tokens.json")
    from lab_server.security.sessions import Sessions

    async with open_surface(tmp_path, tokens) as surface, open_site(surface) as site:
        sealed = surface.site.sessions.seal(f"Bearer {token}")
        other = Sessions(b"another server", is_https=False).seal(f"Bearer {token}")
        for cookie in (sealed[:-6] + "AAAA==", other, "x", "ä", token):
            async with site.get("/api/v1/server", headers={"Cookie": f"lab={cookie}"}) as response:
                assert response.status == 401
        async with site.get("/api/v1/server", headers={"Cookie": f"lab={sealed}"}) as response:
            assert response.status == 200


def test_over_https_the_cookie_belongs_to_this_host_alone() -> None:
    from lab_server.security.sessions import Sessions

    assert Sessions(b"x", is_https=True).cookie_name == "__Host-lab"


# ---- what is vendored


def test_uplot_is_what_its_authors_published() -> None:
    """Version 1.6.32 of the npm package uplot."""
    hashes = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }
    folder = STATIC / "vendor"
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in hashes}
    assert found == hashes
    assert "MIT License" in (folder / "uPlot.LICENSE").read_text()


def test_all_scripts_together_are_at_most_150_kB() -> None:
    assert sum(path.stat().st_size for path in STATIC.rglob("*.js")) <= 150_000


# ---- compare, new runs, searches


async def test_a_comparison_shows_what_differs_and_not_what_is_equal(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    ids = []
    for rate in (0.1, 0.2123456789):
        overrides = {"learning_rate": {"double_value": rate}, "epochs": {"int_value": 3}}
        run = await surface.run(RunState.RUNNING, config={"overrides": overrides})
        ids.append(run.id)
        await surface.supervisor.say(
            run, *events.encode_metrics(1, 1, [Column("loss", [1], [rate])])
        )
    _, text = await _page(site, f"/compare?runs={ids[0]}&runs={ids[1]}")
    assert "<bdi>learning_rate=0.212346</bdi>" in text, "short in the legend"
    assert re.search(r'<td class="config differs"><bdi>0.2123456789</bdi>', text)
    assert "1 set alike" in text
    other = await surface.supervisor.create(
        RunRequest("other"), owner="", config_hash="", key=None, fingerprint=""
    )
    ids.append(other.id)
    _, text = await _page(site, f"/compare?runs={ids[0]}&runs={ids[2]}")
    assert re.search(rf"<bdi>[a-z]* {other.id}</bdi>", text), "not learning_rate="
    (data,) = re.findall(r'data-results="([^"]*)"', text)
    assert json.loads(html.unescape(data))["runs"][1]["configs"] == {}
    for query, sentence in (
        ("", "select runs to compare first"),
        ("runs=nothing", "there is no run"),
        ("&".join(f"runs=r{i}" for i in range(101)), "at most 100 runs"),
    ):
        status, text = await _page(site, f"/compare?{query}")
        assert (status in (400, 404), sentence in text) == (True, True)


async def test_a_form_has_a_field_for_each_config_and_starts_a_run(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    _, text = await _page(site, "/new")
    assert 'href="/new?experiment=mnist"' in text
    assert "No module named" in text, "an experiment that cannot be run says why"
    _, text = await _page(site, "/new?experiment=mnist")
    assert re.search(r'name="c.epochs" value="" placeholder="10"', text)
    assert "passes over the data" in text
    fields = {"experiment": "mnist", "c.epochs": "3", "c.learning_rate": "1e-3", "tags": "a,b"}
    status, text = await _send(site, "/new", fields | {"action": "plan"})
    assert (status, "It would run with" in text) == (200, True)
    assert (await surface.store.list(RunQuery())).runs == ()
    status, place = await _send(site, "/new", fields | {"action": "start", "key": "k"})
    assert status == 303
    run = await surface.supervisor.get(place.removeprefix("/runs/"))
    assert run.state is RunState.QUEUED
    assert (run.request.overrides, run.request.tags) == (
        {"epochs": 3, "learning_rate": 0.001},
        ("a", "b"),
    )


async def test_a_field_that_takes_more_than_its_choices_is_no_list_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices: dict[str, PlainValue] = {"choices": ["auto", "none"]}
    items = (
        SchemaItem("mode", "str", "auto", True, constraints=choices),
        SchemaItem("size", "str | int", "auto", True, constraints=choices),
    )
    monkeypatch.setattr("tests.server.fakes.MNIST", Schema(items=items))
    async with open_surface(tmp_path) as surface, open_site(surface) as site:
        _, text = await _page(site, "/new?experiment=mnist")
    assert re.search(r'<select [^>]*name="c.mode"', text)
    assert re.search(r'<input [^>]*name="c.size"', text)


async def test_each_violation_is_beside_its_field_and_what_was_written_stays(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    wrong = {"experiment": "mnist", "c.epochs": "0", "c.learning_rate": "fast", "action": "start"}
    status, text = await _send(site, "/new", wrong | {"notes": "keep <me>"})
    assert (status, "2 things are wrong; nothing was started" in text) == (400, True)
    for key, written in (("epochs", "0"), ("learning_rate", "fast")):
        field = text[text.index(f'name="c.{key}"') :]
        assert f'value="{written}"' in field[:80]
        assert 'class="error"' in field[: field.index('class="doc"')]
    assert "keep &lt;me&gt;" in text
    assert (await surface.store.list(RunQuery())).runs == ()


async def test_a_forks_form_has_its_parents_configs(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    config = {"overrides": {"epochs": {"int_value": 2}}}
    run = await surface.run(RunState.STOPPED, config=config, name="parent")
    (surface.home / "runs" / "mnist" / run.id / "checkpoints" / "7").mkdir(parents=True)
    _, text = await _page(site, f"/new?parent={run.id}&step=7")
    assert "Fork of <bdi>parent</bdi>" in text
    assert 'name="c.epochs" value="2"' in text
    fields = {"parent": run.id, "step": "7", "c.epochs": "5", "action": "start"}
    status, place = await _send(site, "/new", fields)
    assert status == 303, place
    fork = await surface.supervisor.get(place.removeprefix("/runs/"))
    assert fork.request.parent is not None
    assert (fork.request.parent.step, fork.request.overrides) == (7, {"epochs": 5})


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
    assert (await _page(site, path))[0] == status


async def test_a_search_shows_its_trials_and_is_paused_and_stopped(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    spec = {
        "experiment": "mnist",
        "name": "rates",
        "space": {"epochs": {"choice": {"values": [1, 2]}}},
        "objective": {"metric": "loss", "direction": "MINIMIZE"},
    }
    async with site.post("/api/v1/searches", json={"spec": spec}) as response:
        assert response.status == 200, await response.text()
        search = (await response.json())["search"]
    _, text = await _page(site, "/searches")
    assert "<bdi>rates</bdi>" in text
    path = f"/searches/{search['id']}"
    _, text = await _page(site, path)
    assert "<td>1, 2</td>" in text
    assert not {"rung", "why", "importance"} & set(
        re.findall(r'<th scope="col"[^>]*>([^<]*)<', text)
    )
    assert await _send(site, f"{path}/pause") == (303, path)
    assert "Go on" in (await _page(site, path))[1]
    await _send(site, f"{path}/go-on")
    assert await _send(site, f"{path}/stop") == (303, path)
    assert (await _send(site, f"{path}/explode"))[0] == 404
