"""The pages as a browser without JavaScript gets them: what they show, and what their buttons do."""

from __future__ import annotations

import hashlib
import html
import json
import re
from pathlib import Path

import aiohttp
import pytest

import lab_server.pages
from lab_server.files.log_levels import RECORD
from lab_server.messages import events
from lab_server.model.agent import Gpus, Hello
from lab_server.model.gpu import GpuReading
from lab_server.model.log_level import LogLevel
from lab_server.model.run import RunRequest, RunState
from lab_server.model.slot import Slot
from tests.server.conftest import Surface
from tests.server.sites import EVIL, get_page, send_form
from tests.server.test_api_streams import Column

STATIC = Path(lab_server.pages.__file__).with_name("static")


async def test_the_runs_are_a_table_with_the_configs_that_differ(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for rate in (0.1, 0.2):
        overrides = {"learning_rate": {"double_value": rate}, "epochs": {"int_value": 3}}
        run = await surface.run(RunState.RUNNING, config={"overrides": overrides}, tags=["grid"])
        column = Column("loss", [1], [rate])
        told = [*events.encode_metrics(1, 1, [column]), events.encode_progress(1, 1, 30, 120, 4.5)]
        await surface.supervisor.say(run, *told)
    status, text = await get_page(site, "/")
    assert status == 200
    head = text[text.index("<thead>") : text.index("</thead>")]
    assert "learning_rate" in head
    assert "epochs" not in head, "equal in all runs"
    assert "loss" in head
    assert "30 of 120" in text
    assert ">0.2<" in text
    _, grouped = await get_page(site, "/?group=-learning_rate&m=loss")
    assert "0.15 ± 0.07071" in grouped
    _, filtered = await get_page(site, "/?state=COMPLETED&tag=grid")
    assert "No runs match" in filtered
    _, ordered = await get_page(site, "/?sort=metrics.loss")
    assert 'aria-sort="ascending"' in ordered


async def test_a_long_fraction_is_shortened_in_the_table_and_whole_on_the_runs_page(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for rate in (0.010886575324083514, 123456789012):
        overrides = {"learning_rate": {"double_value": rate}}
        run = await surface.run(config={"overrides": overrides}, tags=["1.234567890123"])
    _, text = await get_page(site, "/")
    assert "<bdi>0.0108866</bdi>" in text
    assert "<bdi>123457" not in text, "whole numbers stay"
    assert "<bdi>1.234567890123</bdi>" in text, "tags are text"
    _, text = await get_page(site, f"/runs/{run.id}")
    assert "learning_rate=123456789012.0" in text


async def test_more_runs_than_a_page_has_are_on_the_next(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for number in range(101):
        await surface.run(name=f"number {number}", tags=["many"])
    _, first = await get_page(site, "/?tag=many")
    assert first.count("<bdi>number ") == 100
    link = re.search(r'href="(/[^"]*page=[^"]*)">Next page', first)
    assert link is not None
    status, second = await get_page(site, html.unescape(link[1]))
    assert (status, second.count("<bdi>number ")) == (200, 1)
    assert "<bdi>number 0</bdi>" in second
    assert "Next page" not in second


async def test_a_runs_page_has_its_log_configs_history_and_files(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    config = {"overrides": {"epochs": {"int_value": 3}}}
    run = await surface.run(RunState.RUNNING, config=config, name="first", notes="a\nb")
    folder = surface.folder_of(run)
    (folder / "checkpoints" / "20").mkdir(parents=True)
    (folder / "checkpoints" / "20" / "model.pt").write_bytes(b"x" * 2000)
    (folder / "log.txt").write_text("step 1 <b>\nlook <i>\n")
    (folder / "log.levels").write_bytes(RECORD.pack(11, 9, LogLevel.WARNING))
    (folder / "source.diff").write_text("+ changed\n")
    await surface.supervisor.say(run, events.encode_checkpoint(1, 1, 20))
    _, text = await get_page(site, f"/runs/{run.id}")
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
    _, text = await get_page(site, f"/runs/{run.id[:-1]}")
    assert "first" in text, "a prefix leads to the run"


async def test_what_changes_of_a_run_is_asked_for_without_the_rest(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING, notes="only on the whole page")
    column = Column("loss", [1], [0.25])
    told = [*events.encode_metrics(1, 1, [column]), events.encode_progress(1, 1, 30, 120, 4.5)]
    run = await surface.supervisor.say(run, *told)
    _, whole = await get_page(site, f"/runs/{run.id}")
    status, now = await get_page(site, f"/runs/{run.id}/now")
    assert status == 200
    shown = re.compile(r'<div id="status".*?</div>', re.DOTALL)
    assert shown.findall(now) == shown.findall(whole)
    assert "30 of 120" in now
    assert "[&#34;loss&#34;]" in now
    assert "only on the whole page" not in now
    assert "0.25" not in now
    _, with_values = await get_page(site, f"/runs/{run.id}/now?values=1")
    assert "0.25" in with_values
    assert (await get_page(site, "/runs/nothing/now"))[0] == 404


async def test_the_server_tells_its_slots_and_queue(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    await surface.run(RunState.RUNNING, name="trains")
    await surface.run(RunState.QUEUED, name="waits")
    _, text = await get_page(site, "/server")
    assert re.search(r"cpu:0</th>\s*<td><a [^>]*><bdi>trains", text)
    assert re.search(r'<td class="num">1</td><th scope="row"><a [^>]*><bdi>waits', text)


async def test_slots_and_gpus_of_agents_are_shown_with_agent_and_pool(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    _, text = await get_page(site, "/server")
    assert "this server" not in text, "no columns for what is not there"
    remote = Slot("a100s/node1/cuda:0#1", "cuda:0", "a100s")
    surface.executor.slots = (*surface.executor.slots, remote)
    agent = surface.agents.attach("node1", "a100s", Hello("1", ()), lambda _: None)
    surface.agents.receive(agent, Gpus((GpuReading("cuda:0", 0.25, 2e9, 8e9, None, 71.0),)))
    _, text = await get_page(site, "/server")
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
        _, text = await get_page(site, path)
        assert "<img src=x" not in text
        assert "<bdi>&lt;img src=x onerror=&#34;alert(1)&#34;&gt;\u202egnp.exe</bdi>" in text


async def test_buttons_do_what_the_api_does(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await surface.run()
    fields = {"name": "new", "tags": "a, b ,", "notes": "one\r\ntwo"}
    await send_form(site, f"/runs/{run.id}/update", fields)
    request = (await surface.supervisor.get(run.id)).request
    assert (request.name, request.tags, request.notes) == ("new", ("a", "b"), "one\ntwo")
    assert await send_form(site, f"/runs/{run.id}/start") == (303, f"/runs/{run.id}")
    assert (await surface.supervisor.get(run.id)).state is RunState.QUEUED
    run = await surface.supervisor.move(await surface.supervisor.get(run.id), RunState.COMPLETED)
    assert await send_form(site, f"/runs/{run.id}/delete") == (303, "/")
    assert (await get_page(site, f"/runs/{run.id}"))[0] == 404


async def test_what_cannot_be_done_to_some_selected_runs_is_told(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    done = await surface.run(RunState.COMPLETED)
    busy = await surface.run(RunState.RUNNING)
    fields = [("action", "delete"), ("runs", done.id), ("runs", busy.id), ("next", "/?q=a")]
    status, text = await send_form(site, "/runs", fields)
    assert status == 409
    assert "1 done, 1 not" in text
    assert (await get_page(site, f"/runs/{done.id}"))[0] == 404
    assert (await get_page(site, f"/runs/{busy.id}"))[0] == 200


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
    _, text = await get_page(site, f"/compare?runs={ids[0]}&runs={ids[1]}")
    assert "<bdi>learning_rate=0.212346</bdi>" in text, "short in the legend"
    assert re.search(r'<td class="config differs"><bdi>0.2123456789</bdi>', text)
    assert "1 set alike" in text
    other = await surface.supervisor.create(
        RunRequest("other"), owner="", config_hash="", key=None, fingerprint=""
    )
    ids.append(other.id)
    _, text = await get_page(site, f"/compare?runs={ids[0]}&runs={ids[2]}")
    assert re.search(rf"<bdi>[a-z]* {other.id}</bdi>", text), "not learning_rate="
    (data,) = re.findall(r'data-results="([^"]*)"', text)
    assert json.loads(html.unescape(data))["runs"][1]["configs"] == {}
    for query, sentence in (
        ("", "select runs to compare first"),
        ("runs=nothing", "there is no run"),
        ("&".join(f"runs=r{i}" for i in range(101)), "at most 100 runs"),
    ):
        status, text = await get_page(site, f"/compare?{query}")
        assert (status in (400, 404), sentence in text) == (True, True)


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
    _, text = await get_page(site, "/searches")
    assert "<bdi>rates</bdi>" in text
    path = f"/searches/{search['id']}"
    _, text = await get_page(site, path)
    assert "<td>1, 2</td>" in text
    assert not {"rung", "why", "importance"} & set(
        re.findall(r'<th scope="col"[^>]*>([^<]*)<', text)
    )
    assert await send_form(site, f"{path}/pause") == (303, path)
    assert "Go on" in (await get_page(site, path))[1]
    await send_form(site, f"{path}/go-on")
    assert await send_form(site, f"{path}/stop") == (303, path)
    assert (await send_form(site, f"{path}/explode"))[0] == 404
