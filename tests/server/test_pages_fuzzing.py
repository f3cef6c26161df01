"""Anything at all in the address, the form and the headers of every page: a page with a sentence, never a 500."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import pytest
from yarl import URL

from lab_server.model.run import RunState
from tests.server.conftest import Surface
from tests.server.test_media import media, picture
from tests.server.test_security_fuzzing import NASTY

pytestmark = pytest.mark.slow

GETS = {
    "/": ("q", "state", "experiment", "tag", "sort", "m", "group", "page"),
    "/rows": ("runs", "k", "m"),
    "/runs/RUN": ("x", "smooth", "at"),
    "/runs/RUN/media": ("at",),
    "/runs/RUN/media/image": ("name", "step", "index"),
    "/compare": ("runs",),
    "/new": ("experiment", "like", "parent", "step", "upload"),
    "/searches": ("page",),
    "/searches/SEARCH": ("page",),
    "/server": ("x",),
    "/login": ("next",),
}
POSTS = {
    "/runs": ("action", "runs", "tag", "next"),
    "/runs/RUN/start": ("x",),
    "/runs/RUN/resume": ("until_step",),
    "/runs/RUN/stop": ("x",),
    "/runs/RUN/save-and-stop": ("x",),
    "/runs/RUN/tag": ("tag",),
    "/runs/RUN/update": ("name", "tags", "notes"),
    "/runs/RUN/delete": ("x",),
    "/new": (
        *("experiment", "action", "name", "tags", "notes", "parent", "step", "key", "upload"),
        *("c.epochs", "c.steps"),
    ),
    "/searches/SEARCH/pause": ("x",),
    "/searches/SEARCH/go-on": ("x",),
    "/searches/SEARCH/stop": ("x",),
    "/searches/SEARCH/delete": ("x",),
    "/tensorboard": ("runs",),
    "/login": ("token", "code", "next"),
    "/logout": ("x",),
}
HEADERS = (
    *("Host", "Origin", "Sec-Fetch-Site", "Cookie", "Authorization", "Accept", "Accept-Language"),
    *("Content-Type", "Last-Event-ID", "Range", "If-None-Match", "Referer", "X-Forwarded-For"),
)
# halves of surrogate pairs, bytes that are no UTF-8, percent signs without numbers
RAW = ("%ed%a0%80", "%ff%fe", "%", "%00", "%zz", "+", "%2e%2e%2f", "9" * 500, "[]", "{", "a" * 5000)
# fields that name something; tests/server/test_site_fuzzing.py gives them what exists
REFERENCES = ("runs", "parent", "like", "upload")
KNOWN = (
    "RUN",
    "mnist",
    "loss",
    "-seed",
    "COMPLETED",
    "metrics.loss desc",
    "1",
    "plan",
    "start",
    "stop",
    "tag",
    "compare",
)


def _fill(path: str, run_id: str) -> str:
    return path.replace("RUN", run_id).replace("SEARCH", "20261123-000000-abcdef01")


def _queries(names: Sequence[str], chance: random.Random) -> Iterator[str]:
    for name in names:
        yield from (f"{name}={raw}" for raw in RAW)
    for _ in range(12):
        some = [(n, chance.choice((*RAW, *KNOWN))) for n in names if chance.random() < 0.7]
        yield "&".join(f"{name}={value}" for name, value in some)


async def test_no_address_makes_an_error_of_the_server(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.say(run, *media(picture(1, 4, 4, 1)))
    chance = random.Random(1)
    found: Counter[int] = Counter()
    for path, names in GETS.items():
        for query in _queries(names, chance):
            raw = _fill(f"{path}?{query}", run.id)
            async with site.get(URL(raw, encoded=True), allow_redirects=False) as response:
                text = await response.text()
                assert response.status < 500, raw
                assert "Traceback" not in text, raw
                found[response.status] += 1
    assert found[200] > 100
    assert found[400] > 100


async def test_no_form_makes_an_error_of_the_server(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    chance = random.Random(2)
    found: Counter[int] = Counter()
    for path, names in POSTS.items():
        for index in range(len(names) * 8):
            run = await surface.run(chance.choice([RunState.COMPLETED, RunState.CREATED]))
            fields: list[tuple[str, Any]] = [
                (n, chance.choice((*NASTY, *KNOWN)).replace("RUN", run.id))
                for n in names
                if chance.random() < 0.8
            ]
            if index % 4 == 0:
                fields.append((chance.choice(names), "twice"))
            form = aiohttp.FormData(fields or {"x": ""}, charset="utf-8")
            target = _fill(path, run.id)
            async with site.post(target, data=form, allow_redirects=False) as response:
                text = await response.text()
                assert response.status < 500, (target, fields)
                assert "Traceback" not in text, (target, fields)
                found[response.status] += 1
    assert found[303] > 20
    assert found[400] > 20


async def test_no_header_makes_an_error_of_the_server(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.COMPLETED)
    values = [value for value in NASTY if value.isprintable() and value.isascii()]
    values += [
        "multipart/form-data",
        "text/html; charset=klingon",
        "bytes=9-1",
        "cross-site",
        "::1",
    ]
    values += ["[", "a" * 4000, "lab-session=x", "Bearer lab_00000000_x", "http://[", "a@b:c@d"]
    for name in HEADERS:
        for value in values:
            for verb, path in (("GET", "/"), ("GET", "/server"), ("POST", f"/runs/{run.id}/stop")):
                form = (
                    {"Content-Type": "application/x-www-form-urlencoded"} if verb == "POST" else {}
                )
                headers = form | {name: value}
                async with site.request(
                    verb, path, headers=headers, data=b"x=" if form else None, allow_redirects=False
                ) as response:
                    assert response.status < 500, headers
