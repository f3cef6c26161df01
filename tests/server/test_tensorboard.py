"""TensorBoard of chosen runs: a real one, behind the pages' session."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lab_server.model.roles import Role
from lab_server.model.run import Run, RunState
from lab_server.pages.boards import Boards
from lab_server.pages.tensorboard import own_policy
from lab_server.security.tokens import TokenFile, Tokens
from tests.server.conftest import Surface, open_site, open_surface


def _write_events(folder: Path) -> None:
    writer = EventFileWriter(str(folder))
    writer.add_event(
        Event(step=1, summary=Summary(value=[Summary.Value(tag="loss", simple_value=1)]))
    )
    writer.close()


async def _run(surface: Surface, name: str) -> Run:
    run = await surface.run(RunState.COMPLETED, name=name)
    _write_events(surface.folder_of(run) / "tensorboard")
    return run


async def _open(site: aiohttp.ClientSession, *run_ids: str, **headers: str) -> tuple[int, str]:
    form = aiohttp.FormData([("runs", run_id) for run_id in run_ids] or {"x": ""})
    async with site.post(
        "/tensorboard", data=form, headers=headers, allow_redirects=False
    ) as response:
        return response.status, response.headers.get("Location", "") or await response.text()


def _boards_of_this_process() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "lab_server.pages.tensorboard_child" in child.cmdline()]


@pytest.mark.slow
async def test_it_shows_the_chosen_runs_and_ends_with_the_server(surface: Surface) -> None:
    async with open_site(surface) as site:
        first = await _run(surface, "a <b>\u202e/../c")
        other = await _run(surface, "other")
        await _run(surface, "not chosen")
        status, place = await _open(site, first.id, other.id)
        assert (status, place.startswith("/tensorboard/")) == (303, True), place
        assert await _open(site, other.id, first.id) == (303, place)
        async with site.get(place) as response:
            assert "<title>TensorBoard</title>" in await response.text()
            policy = response.headers["Content-Security-Policy"]
            assert "://" not in policy
            assert "frame-ancestors 'self'" in policy
        found: list[str] = []
        while len(found) < 2:  # it reads the files after it has begun to answer
            async with site.get(f"{place}data/runs") as response:
                found = await response.json()
        assert sorted(found) == sorted([f"a_b_.._c-{first.id}", f"other-{other.id}"])
        (board,) = _boards_of_this_process()
        assert board.net_connections("inet") == [], "nobody else on this machine can ask it"
    assert not board.is_running()


@pytest.mark.slow
async def test_one_that_nobody_looks_at_ends_and_the_oldest_makes_room(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write_events(tmp_path / name)
    boards = Boards(idle_s=600, max_boards=1)
    first = await boards.open({"a": tmp_path / "a"})
    assert await boards.open({"a": tmp_path / "a"}) is first
    second = await boards.open({"b": tmp_path / "b"})
    assert (boards.get(first.key), boards.get(second.key)) == (None, second)
    assert first.process.returncode is not None
    await boards.close()
    boards = Boards(idle_s=0.5)
    board = await boards.open({"a": tmp_path / "a"})
    await asyncio.wait_for(board.process.wait(), 60)
    assert boards.get(board.key) is None
    await boards.close()
    assert not board.folder.exists()


async def test_where_it_is_not_installed_the_page_says_what_to_install(
    surface: Surface, site: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await _run(surface, "first")
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    status, text = await _open(site, run.id)
    assert status == 409
    assert "pip install &#39;lab-train[core]&#39;" in text


async def test_what_cannot_be_shown_gets_a_page(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    bare = await surface.run()
    linked = await surface.run()
    folder = surface.home / "runs" / "mnist" / linked.id
    folder.mkdir(parents=True)
    (folder / "tensorboard").symlink_to("/etc")
    for run_ids, status, sentence in (
        ((), 400, "select 1 to 100 runs first"),
        (tuple(f"r{i}" for i in range(101)), 400, "select 1 to 100 runs first"),
        (("nothing",), 404, "there is no run"),
        ((bare.id, linked.id), 409, "have written nothing for TensorBoard"),
    ):
        found, text = await _open(site, *run_ids)
        assert (found, sentence in text) == (status, True), text
    async with site.get("/tensorboard/0123456789abcdef/data/runs") as response:
        assert (response.status, "this TensorBoard has ended" in await response.text()) == (
            404,
            True,
        )


async def test_another_sites_page_and_who_is_not_logged_in_open_none(
    tmp_path: Path, surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await _run(surface, "first")
    status, _ = await _open(site, run.id, **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403
    TokenFile(tmp_path / "tokens.json").create("vera", Role.VIEWER)
    (tmp_path / "guarded").mkdir()
    async with (
        open_surface(tmp_path / "guarded", Tokens(tmp_path / "tokens.json")) as guarded,
        open_site(guarded) as closed,
    ):
        assert (await _open(closed, run.id))[0] == 401
        async with closed.get("/tensorboard/key/", allow_redirects=False) as response:
            assert response.headers["Location"].startswith("/login")
    assert _boards_of_this_process() == []


def test_its_policy_allows_no_other_site() -> None:
    theirs = "default-src 'self';frame-ancestors *;style-src 'self' https://www.gstatic.com"
    assert own_policy(theirs) == "default-src 'self'; style-src 'self'; frame-ancestors 'self'"
    assert own_policy("") == "default-src 'self'; frame-ancestors 'self'"
