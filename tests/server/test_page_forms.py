"""Forms for new runs and forks: what they show, and what they start."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

from lab_core.configs import PlainValue, Schema, SchemaItem
from lab_server.model.run import RunState
from lab_server.store import RunQuery
from tests.server.conftest import Surface, open_site, open_surface
from tests.server.sites import get_page, send_form


async def test_a_form_has_a_field_for_each_config_and_starts_a_run(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    _, text = await get_page(site, "/new")
    assert 'href="/new?experiment=mnist"' in text
    assert "No module named" in text, "an experiment that cannot be run says why"
    _, text = await get_page(site, "/new?experiment=mnist")
    assert re.search(r'name="c.epochs" value="" placeholder="10"', text)
    assert "passes over the data" in text
    fields = {"experiment": "mnist", "c.epochs": "3", "c.learning_rate": "1e-3", "tags": "a,b"}
    status, text = await send_form(site, "/new", fields | {"action": "plan"})
    assert (status, "It would run with" in text) == (200, True)
    assert (await surface.store.list(RunQuery())).runs == ()
    status, place = await send_form(site, "/new", fields | {"action": "start", "key": "k"})
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
        _, text = await get_page(site, "/new?experiment=mnist")
    assert re.search(r'<select [^>]*name="c.mode"', text)
    assert re.search(r'<input [^>]*name="c.size"', text)


async def test_each_violation_is_beside_its_field_and_what_was_written_stays(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    wrong = {"experiment": "mnist", "c.epochs": "0", "c.learning_rate": "fast", "action": "start"}
    status, text = await send_form(site, "/new", wrong | {"notes": "keep <me>"})
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
    (surface.folder_of(run) / "checkpoints" / "7").mkdir(parents=True)
    _, text = await get_page(site, f"/new?parent={run.id}&step=7")
    assert "Fork of <bdi>parent</bdi>" in text
    assert 'name="c.epochs" value="2"' in text
    fields = {"parent": run.id, "step": "7", "c.epochs": "5", "action": "start"}
    status, place = await send_form(site, "/new", fields)
    assert status == 303, place
    fork = await surface.supervisor.get(place.removeprefix("/runs/"))
    assert fork.request.parent is not None
    assert (fork.request.parent.step, fork.request.overrides) == (7, {"epochs": 5})
