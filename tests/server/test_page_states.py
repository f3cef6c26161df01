"""Pages for those who may not do everything, and for what went wrong: what is offered, and what is said."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from lab_server.errors import QueueFull, Unavailable
from lab_server.messages import events
from lab_server.model.roles import Role
from lab_server.model.run import RunRequest, RunState
from lab_server.pages.render import linked
from lab_server.security.tokens import TokenFile, Tokens
from tests.server.conftest import Surface, open_site, open_surface
from tests.server.sites import get_page, send_form
from tests.server.test_api_streams import Column

pytestmark = pytest.mark.slow

CHANGES = (
    "Start",
    "Stop",
    "Delete",
    "Resume",
    "Fork",
    "Run again",
    "Edit name",
    "Add tag",
    "Pause",
)


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


@dataclass
class Guarded:
    """A site with tokens, a run of olga's that stopped, and her search."""

    site: aiohttp.ClientSession
    run: str
    search: str


@asynccontextmanager
async def logged_in(
    folder: Path, tokens: TokenFile, name: str, role: Role
) -> AsyncIterator[Guarded]:
    """Serve, and log somebody in."""
    olga, token = tokens.create("olga", Role.OPERATOR), tokens.create(name, role)
    async with (
        open_surface(folder, Tokens(folder / "tokens.json")) as surface,
        open_site(surface) as site,
    ):
        run = await surface.supervisor.create(
            RunRequest("mnist"), owner="olga", config_hash="", key=None, fingerprint=""
        )
        run = await surface.supervisor.move(run, RunState.STOPPED)
        checkpoint = surface.folder_of(run) / "checkpoints" / "7"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.pt").write_bytes(b"x")
        space = {"epochs": {"choice": {"values": [1, 2]}}}
        objective = {"metric": "loss", "direction": "MINIMIZE"}
        spec = {"experiment": "mnist", "space": space, "objective": objective}
        headers = {"Authorization": f"Bearer {olga}"}
        async with site.post("/api/v1/searches", json={"spec": spec}, headers=headers) as response:
            search = (await response.json())["search"]["id"]
        assert (await send_form(site, "/login", {"token": token}))[0] == 303
        yield Guarded(site, run.id, search)


def _offered(page: str) -> set[str]:
    """Return what a page offers that changes something."""
    labels = re.findall(r"<(?:button|summary|a)\b[^>]*>([^<]*)</", page)
    return {word for word in CHANGES for label in labels if label.startswith(word)}


@pytest.mark.parametrize(
    ("name", "role", "of_run", "of_search", "of_table"),
    [
        ("vera", Role.VIEWER, set(), set(), set()),
        ("otto", Role.OPERATOR, {"Fork", "Run again"}, set(), {"Stop", "Delete", "Add tag"}),
        (
            *("adam", Role.ADMIN, {"Start", "Delete", "Fork", "Run again", "Edit name"}),
            *({"Pause", "Stop"}, {"Stop", "Delete", "Add tag"}),
        ),
    ],
)
async def test_pages_offer_what_the_caller_may_do(
    tmp_path: Path,
    token_file: TokenFile,
    name: str,
    role: Role,
    of_run: set[str],
    of_search: set[str],
    of_table: set[str],
) -> None:
    async with logged_in(tmp_path, token_file, name, role) as guarded:
        site = guarded.site
        assert _offered((await get_page(site, f"/runs/{guarded.run}"))[1]) == of_run
        assert _offered((await get_page(site, f"/searches/{guarded.search}"))[1]) == of_search
        _, table = await get_page(site, "/")
        assert _offered(table) == of_table
        assert ">New run</a>" in table if of_run else ">New run</a>" not in table
        assert f"{name}, {role.name.lower()}" in table
        _, form = await get_page(site, "/new?experiment=mnist")
        assert ('value="start"' in form) == bool(of_run)
        assert ("As viewer you may check configs" in form) != bool(of_run)


async def test_an_error_page_is_the_callers_own(tmp_path: Path, token_file: TokenFile) -> None:
    async with logged_in(tmp_path, token_file, "vera", Role.VIEWER) as guarded:
        for path in ("/nothing", "/runs/nothing"):
            status, page = await get_page(guarded.site, path)
            assert (status, "vera, viewer" in page, "Log out" in page) == (404, True, True)
        status, page = await send_form(guarded.site, f"/runs/{guarded.run}/start")
        assert (status, "vera, viewer" in page) == (403, True)
        guarded.site.cookie_jar.clear()
        _, page = await get_page(guarded.site, "/nothing")
        assert (">Searches</a>" in page, ">Log in</a>" in page) == (False, True)
        status, page = await get_page(guarded.site, "/nothing", Host="evil.test")
        assert (status, ">Log in</a>" in page) == (421, False), "it leads nowhere"
        _, page = await get_page(guarded.site, "/login")
        assert ">Searches</a>" not in page, "no links to what needs a login"


@pytest.mark.parametrize(
    ("verb", "path", "headers", "status", "title"),
    [
        ("GET", "/compare", {}, 400, "That is not valid"),
        ("POST", "/runs", {"Sec-Fetch-Site": "cross-site"}, 403, "You may not do this"),
        ("GET", "/nothing", {}, 404, "Not found"),
        ("PUT", "/server", {}, 405, "Not done here"),
        ("POST", "/server", {"Content-Type": "text/plain"}, 405, "Not done here"),
        ("POST", "/new", {"Content-Type": "text/plain"}, 415, "That is not a form"),
        ("POST", "/new", {}, 413, "Too large"),
        ("GET", "/nothing", {"Host": "evil.test"}, 421, "Another name"),
    ],
)
async def test_an_error_says_in_its_title_what_it_is(
    site: aiohttp.ClientSession,
    verb: str,
    path: str,
    headers: dict[str, str],
    status: int,
    title: str,
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"a=" + b"b" * 5_000_000 if status == 413 else b"a=b"
    data = body if verb != "GET" else None
    async with site.request(verb, path, data=data, headers=form | headers) as response:
        page = await response.text()
        assert (response.status, response.content_type) == (status, "text/html"), page
        assert f"<h1>{title}</h1>" in page


@pytest.mark.parametrize(
    ("error", "status", "title", "sentence"),
    [
        (QueueFull(3), 429, "Too many", "the queue is full: 3 runs are waiting"),
        (Unavailable("the server stops"), 503, "Not available now", "the server stops"),
        (KeyError("secret"), 500, "That did not work", "internal error; see the server"),
    ],
)
async def test_what_the_server_cannot_do_now_is_said(
    surface: Surface,
    site: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    title: str,
    sentence: str,
) -> None:
    async def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(surface.service, "StartRun", refuse)
    found, page = await send_form(site, "/runs/a/start")
    assert (found, f"<h1>{title}</h1>" in page, sentence in page) == (status, True, True)
    assert "secret" not in page


async def test_a_failed_run_shows_its_error_first(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    told = events.encode_state(1, 1, RunState.FAILED, "ValueError: no <b>", "at line 7 <b>")
    run = await surface.supervisor.move(run, RunState.FAILED, reason="ValueError: no <b>")
    await surface.supervisor.say(run, told)
    _, page = await get_page(site, f"/runs/{run.id}")
    top = page[page.index('id="status"') : page.index('class="bar"')]
    assert "ValueError: no &lt;b&gt;" in top
    assert "at line 7 &lt;b&gt;" in top


async def test_results_come_before_the_configs_that_differ(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for epochs in (1, 2):
        config = {"overrides": {"epochs": {"int_value": epochs}}}
        run = await surface.run(RunState.RUNNING, config=config)
        await surface.supervisor.say(
            run, *events.encode_metrics(1, 1, [Column("loss", [1], [7.5])])
        )
    _, page = await get_page(site, "/")
    head = page[page.index("<thead>") : page.index("</thead>")]
    assert head.index(">loss<") < head.index(">epochs<")
    assert page.index('<td class="num">7.5</td>') < page.index('<td class="config"><bdi>2</bdi>')


def test_ids_of_runs_in_a_sentence_are_links() -> None:
    run_id = "20261126-101112-0123abcd"
    link = f'<a href="/runs/{run_id}">{run_id}</a>'
    assert linked(f"after {run_id}, which has <3 min>") == f"after {link}, which has &lt;3 min&gt;"
    assert linked(f"x{run_id}") == f"x{run_id}"


async def test_what_is_wrong_in_a_form_is_linked_and_described(site: aiohttp.ClientSession) -> None:
    wrong = {"experiment": "mnist", "c.epochs": "0", "action": "start"}
    status, page = await send_form(site, "/new", wrong)
    assert status == 400
    (field,) = re.findall(r'<a href="#(c-\d+)">epochs</a>', page)
    assert re.search(
        rf'<input id="{field}" name="c.epochs" [^>]*="{field}-wrong {field}-doc"', page
    )
    assert f'class="error" id="{field}-wrong"' in page


async def test_the_servers_own_files_of_a_run_are_not_listed(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.COMPLETED)
    folder = surface.folder_of(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("log.txt", "log.levels", "sqlite.db", "sqlite.db-wal"):
        (folder / name).write_bytes(b"x")
    _, page = await get_page(site, f"/runs/{run.id}")
    listed = re.findall(r"download>([^<]*)</a>", page)
    assert listed == ["log.txt", "sqlite.db"]


async def test_a_runs_page_does_not_wait_for_a_leader_that_says_nothing(
    surface: Surface, site: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    run = await surface.run(RunState.RUNNING, config={"overrides": {"epochs": {"int_value": 3}}})
    monkeypatch.setattr("lab_server.pages.run._PATIENCE_S", 0.05)
    monkeypatch.setattr(surface.service, "PlanRun", never)
    monkeypatch.setattr(surface.service, "ListArtifacts", never)
    status, page = await get_page(site, f"/runs/{run.id}")
    assert (status, "the server that has its files does not answer" in page) == (200, True)
    assert '<th scope="row" class="key">epochs</th>' in page


async def test_of_an_experiment_that_is_gone_what_was_set_is_shown_and_why_not_all(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.supervisor.create(
        RunRequest("gone", overrides={"steps": 21}),
        owner="",
        config_hash="",
        key=None,
        fingerprint="",
    )
    _, page = await get_page(site, f"/runs/{run.id}")
    configs = page[page.index('id="configs-title"') : page.index('id="about-title"')]
    assert "there is no experiment &#39;gone&#39;" in configs
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)<', configs) == ["config", "value", "from"]
    assert "<bdi>21</bdi>" in configs


async def test_a_column_that_says_nothing_is_not_there(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    _, page = await get_page(site, f"/runs/{run.id}")
    assert '<th scope="col">why, where</th>' not in page
    run = await surface.supervisor.move(run, RunState.STOPPED, reason="somebody stopped it")
    await surface.supervisor.say(
        run, events.encode_state(1, 1, RunState.STOPPED, "somebody stopped it")
    )
    _, page = await get_page(site, f"/runs/{run.id}")
    assert '<th scope="col">why, where</th>' in page
    assert '<td class="lines">somebody stopped it</td>' in page


async def test_a_long_value_is_cut_in_the_table_and_the_legend(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    ids = []
    for letter in "ab":
        config = {"overrides": {"label": {"string_value": letter * 300}}}
        ids.append((await surface.run(RunState.RUNNING, config=config)).id)
    _, page = await get_page(site, "/")
    assert f"<bdi>{'a' * 59}…</bdi>" in page
    _, page = await get_page(site, f"/compare?runs={ids[0]}&runs={ids[1]}")
    assert f"<bdi>label={'b' * 59}…</bdi>" in page
    assert f"<bdi>{'b' * 300}</bdi>" in page, "whole in the table of what differs"


async def test_an_empty_server_says_so_in_any_order(site: aiohttp.ClientSession) -> None:
    for path in ("/", "/?sort=name", "/?m=loss"):
        assert "No runs yet" in (await get_page(site, path))[1]
    assert "No runs match" in (await get_page(site, "/?q=loss+<+1"))[1]
