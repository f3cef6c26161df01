"""The whole site of a real server, about things that exist: runs in each state, searches, and code that was sent.

`LAB_FUZZ_EXAMPLES=100 pytest tests/server/test_site_fuzzing.py` looks longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

import lab_client
from lab_client import choice
from lab_server.api.routes import PREFIX, ROUTES
from tests.server.test_pages_fuzzing import GETS, KNOWN, POSTS, RAW, REFERENCES
from tests.server.test_security_fuzzing import NASTY
from tests.servers import RealServer, start_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0 if "LAB_FUZZ_EXAMPLES" in os.environ else 400),
]

NUM_EXAMPLES = int(os.environ.get("LAB_FUZZ_EXAMPLES", "6"))
TESTS = Path(__file__).parents[1]
EXPERIMENTS = (TESTS / "experiments.py", TESTS / "browser" / "painted.py")
SENT = """
from lab_core import tracker
from lab_core.configs import BaseConfigs

class Sent(BaseConfigs):
    steps: int = 3
    def run(self):
        tracker.save(self.steps, loss=1.0)
"""
# what would start a process for minutes, or end the session of a browser that there is none of
SLOW = ("/tensorboard",)
# of the fields of forms, those that name something
IDS = {"runs": "run", "parent": "run", "like": "run", "upload": "upload"}


class Things:
    """A server, and the ids of what it has: `run`, `search` and `upload`, a list of each."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        self.url = server.http_url
        self.server = server
        self.client = lab_client.Client(server.address, timeout_s=120, retry_timeout_s=120)
        client = self.client
        source = folder / "sent.py"
        source.write_text(SENT)
        sent = client.create(source, {"steps": 2}).start()
        runs = [
            client.create("painted", name="painted").start(),
            client.create("raises").start(),
            client.create("valley", {"checkpoint_interval": 9}, tags=["a"]).start(),
            sent,
        ]
        for run in runs:
            with contextlib.suppress(lab_client.errors.RunFailed):
                run.wait()
        over = client.search("counting", {"steps": choice(1, 2)}, minimize="loss", max_trials=2)
        over.wait()
        paused = client.search("counting", {"steps": choice(1, 2)}, minimize="loss", max_trials=2)
        paused.pause()
        long = {"steps": 100_000, "step_s": 0.05}
        created, live, waits = (client.create("counting", long) for _ in range(3))
        live.start()
        waits.start()
        self.ids = {
            "run": [run.id for run in (*runs, created, live, waits)],
            "search": [over.id, paused.id],
            "upload": [sent.info.upload_id],
        }


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Things]:
    """Serve, and have things there."""
    experiments = [word for path in EXPERIMENTS for word in ("--experiments", str(path))]
    limits = ("--slots", "cpu:1", "--queue-limit", "20")
    server = start_server(folder / "home", *limits, "--allow-uploads", *experiments)
    try:
        things = Things(server, folder)
        yield things
        things.client.close()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    """What tests share, of which they delete nothing."""
    with serve(tmp_path_factory.mktemp("site")) as things:
        yield things


def _with_ids(path: str, things: Things, chance: random.Random) -> str:
    if path == "/runs/RUN/delete":
        return path.replace("RUN", things.client.create("counting").id)
    if path == "/searches/SEARCH/delete":
        return path.replace("SEARCH", things.ids["search"][1])  # it is not over
    for word, kind in (("RUN", "run"), ("SEARCH", "search")):
        path = path.replace(word, chance.choice(things.ids[kind]))
    return path


def _value(name: str, things: Things, chance: random.Random, others: tuple[str, ...]) -> str:
    """Return the id of something where a field takes one, now and then; else anything."""
    kind = IDS.get(name)
    if kind and chance.random() < 0.7:
        return chance.choice(things.ids[kind])
    return chance.choice(others)


async def _check(response: aiohttp.ClientResponse, what: object) -> int:
    """Check that an answer is what a person can read, whatever was sent."""
    body = await response.read()
    assert response.status < 500, (what, body)
    if response.status >= 400:
        assert response.content_type == "text/html", what
        text = body.decode()
        assert re.search(r"<h1>[^<]", text), what
        assert re.search(r'class="[^"]*error[^"]*"[^>]*>\s*(<p[^>]*>)?[^<\s]', text), (what, text)
        assert "Traceback" not in text, what
    return response.status


async def test_every_page_about_things_that_exist_is_one_or_says_why_not(things: Things) -> None:
    chance = random.Random(1)
    found: dict[str, Counter[int]] = {}
    async with aiohttp.ClientSession(things.url) as site:
        for path, names in GETS.items():
            for number in range(NUM_EXAMPLES * (1 + len(names))):
                chosen = [] if number < 8 else [n for n in names if chance.random() < 0.6]
                fields = [f"{n}={_value(n, things, chance, (*RAW, *KNOWN))}" for n in chosen]
                raw = f"{_with_ids(path, things, chance)}?{'&'.join(fields)}".replace(" ", "+")
                async with site.get(URL(raw, encoded=True), allow_redirects=False) as response:
                    status = await _check(response, raw)
                    found.setdefault(path, Counter())[status] += 1
    refused_alone = {"/runs/RUN/media/image", "/compare", "/login"}  # they need a query, or a login
    assert {path for path, statuses in found.items() if not statuses[200]} <= refused_alone


async def test_what_is_read_of_things_that_exist_is_read(things: Things) -> None:
    run = things.ids["run"][0]
    async with aiohttp.ClientSession(things.url) as site:
        for path in (
            *(f"/runs/{run}/logs", f"/runs/{run}/files/log.txt", f"/runs/{run}/metrics?names=loss"),
            *(f"/runs/{run}/media?kind=INDEXED", f"/curves?runs={run}&metrics=loss"),
        ):
            async with site.get(PREFIX + path) as response:
                assert (response.status, bool(await response.read())) == (200, True), path
        async with site.get(f"{PREFIX}/events") as response, asyncio.timeout(60):
            assert response.status == 200
            assert b"event: hello" in await response.content.readuntil(b"\n\n")


async def test_every_form_about_things_that_exist_gets_an_answer(things: Things) -> None:
    chance = random.Random(2)
    found: Counter[int] = Counter()
    async with aiohttp.ClientSession(things.url) as site:
        for path, names in POSTS.items():
            if path in SLOW:
                continue
            for _ in range(NUM_EXAMPLES * len(names)):
                fields = [
                    (n, _value(n, things, chance, (*NASTY, *KNOWN)))
                    for n in names
                    if chance.random() < 0.8
                ]
                form = aiohttp.FormData(fields or {"x": ""}, charset="utf-8")
                target = _with_ids(path, things, chance)
                async with site.post(target, data=form, allow_redirects=False) as response:
                    found[await _check(response, (target, fields))] += 1
    assert found[303] > 10
    assert found[400] + found[404] + found[409] > 10
    assert things.server.process.poll() is None


def _body(rpc: str, things: Things) -> dict[str, Any]:
    """Return a request that is good, about things that exist."""
    space = {"steps": {"choice": {"values": [1, 2]}}}
    spec = {
        "experiment": "counting",
        "space": space,
        "objective": {"metric": "loss", "direction": "MINIMIZE"},
        "budget": {"max_trials": 1},
    }
    uploaded = {"experiment": "sent", "upload_id": things.ids["upload"][0]}
    bodies: dict[str, dict[str, Any]] = {
        "PlanRun": uploaded,
        "CreateRun": uploaded | {"config": {"overrides": {"steps": 1}}},
        "UpdateRun": {"name": "new", "notes": "a"},
        "CreateSearch": {"spec": spec},
        "EnqueueTrials": {"points": [{"params": {"steps": 1}}]},
        "UpdateSearch": {"paused": True},
    }
    return bodies.get(rpc, {})


def _mutated(body: Any, things: Things, chance: random.Random) -> Any:
    """Return a body with one of its values replaced by anything."""
    if isinstance(body, dict) and body and chance.random() < 0.8:
        key = chance.choice(sorted(body))
        return body | {key: _mutated(body[key], things, chance)}
    if isinstance(body, list) and body and chance.random() < 0.8:
        return [_mutated(body[0], things, chance), *body[1:]]
    ids = [an_id for known in things.ids.values() for an_id in known]
    odd: list[Any] = [None, True, -1, 1 << 70, 1.5, [], {}, [[]], {"a": None}, {"steps": "x"}]
    return chance.choice([*odd, *ids, *(text for text in NASTY if "\ud800" not in text)])


def test_every_route_of_the_api_answers_about_things_that_exist(tmp_path: Path) -> None:
    with serve(tmp_path) as things:
        asyncio.run(_ask_every_route(things))


def _is_last(route: tuple[str, str, str]) -> bool:
    """Whether a route is for when all others were asked."""
    return route[2].startswith(("Stop", "Delete"))


async def _ask_every_route(things: Things) -> None:
    chance = random.Random(3)
    statuses: dict[str, set[int]] = {}
    async with aiohttp.ClientSession(things.url) as site:
        paths = [(route.verb, route.path, route.rpc) for route in ROUTES]
        paths += [("POST", f"{PREFIX}/runs/{{run_id}}/fork", "CreateRun of a fork")]
        for verb, path, rpc in sorted(paths, key=_is_last):
            for number in range(NUM_EXAMPLES * 4):
                known = {
                    "{run_id}": things.ids["run"][number % len(things.ids["run"])],
                    "{search_id}": things.ids["search"][number % 2],
                    "{name}": chance.choice(["counting", "painted", "sent"]),
                }
                target = path
                for word, text in known.items():
                    target = target.replace(word, text)
                good = _body(rpc, things)
                is_good = number < len(things.ids["run"]) or not good
                body = good if is_good else _mutated(good, things, chance)
                if verb == "GET" and "experiments/" in target:
                    target += f"?upload_id={things.ids['upload'][0]}" if number % 2 else ""
                data = json.dumps(body) if verb == "POST" else None
                headers = {"Content-Type": "application/json"} if data else {}
                async with site.request(verb, target, data=data, headers=headers) as response:
                    answer = await response.json()
                    assert response.status < 500, (verb, target, body, answer)
                    if response.status >= 400:
                        assert answer["error"]["message"], (target, body)
                    statuses.setdefault(f"{verb} {path}", set()).add(response.status)
    unheard = sorted(path for path, found in statuses.items() if 200 not in found)
    assert unheard == [], f"{unheard}: routes that no existing thing was good for"


def test_every_field_of_a_page_that_names_something_is_given_what_exists() -> None:
    fields = {name for names in (*GETS.values(), *POSTS.values()) for name in names}
    assert fields & set(REFERENCES) == set(REFERENCES) == set(IDS)
