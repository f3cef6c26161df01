"""The HTTP API: RPCs as JSON, their errors, and what HTTP itself refuses."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from lab_rpc.v1 import config_pb2, run_pb2, training_service_pb2
from lab_server.api import bodies
from lab_server.api.json_messages import from_json, to_json
from lab_server.api.routes import ROUTES
from lab_server.errors import InvalidRequest
from lab_server.messages import events
from lab_server.model.run import RunState
from tests.server.conftest import Surface, open_site
from tests.server.test_api_streams import Column

pb = training_service_pb2
API = "/api/v1"


async def _get(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, Any]:
    async with client.get(API + path, headers=headers) as response:
        return response.status, await response.json()


async def _post(
    client: aiohttp.ClientSession, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    async with client.post(API + path, json=body or {}, headers=headers) as response:
        return response.status, await response.json()


def _with_a(value: str) -> str:
    return f'{{"config": {{"overrides": {{"a": {value}}}}}}}'


async def test_a_run_is_created_started_changed_and_deleted(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    config = {"overrides": {"epochs": 2, "learning_rate": 0.5}}
    status, answer = await _post(
        site, "/runs", {"experiment": "mnist", "config": config, "tags": ["a"]}
    )
    assert status == 200
    run_id = answer["run"]["id"]
    assert answer["run"]["state"] == "CREATED"
    assert answer["run"]["config"]["overrides"] == {"epochs": 2, "learning_rate": 0.5}
    assert (await _post(site, f"/runs/{run_id}/start"))[1]["run"]["state"] == "QUEUED"
    run = await surface.supervisor.get(run_id)
    await surface.supervisor.move(run, RunState.RUNNING, attempt=1, slot="cpu:0")
    assert (await _get(site, "/server"))[1]["slots"][0] == {"name": "cpu:0", "run_id": run_id}
    await _post(site, f"/runs/{run_id}/stop", {"checkpoint": True})
    run = await surface.supervisor.get(run_id)
    await surface.supervisor.move(run, RunState.STOPPED, attempt=1)
    assert (await _post(site, f"/runs/{run_id}/resume"))[1]["run"]["state"] == "QUEUED"
    run = await surface.supervisor.get(run_id)
    await surface.supervisor.move(run, RunState.COMPLETED, attempt=2)
    status, answer = await _post(site, f"/runs/{run_id}/update", {"notes": "good", "tags": []})
    assert (status, answer["run"]["notes"], answer["run"]["tags"]) == (200, "good", [])
    assert answer["run"]["name"] == "mnist", "what the body does not name stays"
    body = {"add_tags": ["b", "c"], "remove_tags": ["a"], "notes": None}
    status, answer = await _post(site, f"/runs/{run_id}/update", body)
    assert (status, answer["run"]["tags"]) == (200, ["b", "c"])
    assert answer["run"]["notes"] == "good", "what is null is not named"
    assert (await _post(site, f"/runs/{run_id}/delete"))[0] == 200
    assert (await _get(site, f"/runs/{run_id}"))[0] == 404


async def test_runs_are_listed_by_filter_and_page(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for name in ("one", "two", "three"):
        await surface.run(RunState.RUNNING if name == "two" else RunState.CREATED, name=name)
    _, answer = await _get(site, "/runs?states=RUNNING&states=QUEUED")
    assert [run["name"] for run in answer["runs"]] == ["two"]
    _, first = await _get(site, "/runs?page_size=2")
    _, second = await _get(site, f"/runs?page_size=2&page_token={first['next_page_token']}")
    names = [run["name"] for run in first["runs"] + second["runs"]]
    assert names == ["three", "two", "one"]


async def test_of_a_page_of_runs_only_the_wanted_metrics_are_told(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        run = await surface.run(RunState.RUNNING)
        columns = [Column(name, [1], [0.5]) for name in ("loss", "accuracy")]
        await surface.supervisor.say(run, *events.encode_metrics(1, 1, columns))
    _, first = await _get(site, "/runs?page_size=1")
    assert first["runs"][0]["metrics"] == {"loss": 0.5, "accuracy": 0.5}
    # which metrics are told does not say which runs are meant: a page may follow one with others
    token = first["next_page_token"]
    _, second = await _get(site, f"/runs?metrics=loss&metrics=nothing&page_token={token}")
    assert second["runs"][0]["metrics"] == {"loss": 0.5}


async def test_a_plan_tells_what_an_experiment_resolves_to_and_all_that_is_wrong(
    site: aiohttp.ClientSession,
) -> None:
    assert (await _get(site, "/experiments"))[1]["experiments"][1]["name"] == "mnist"
    _, answer = await _get(site, "/experiments/mnist")
    assert answer["schema"]["items"][0]["key"] == "epochs"
    overrides = {"epochs": 3}
    body = {"experiment": "mnist", "config": {"overrides": overrides}}
    _, answer = await _post(site, "/plan", body)
    item = answer["plan"]["items"][0]
    assert (item["key"], item["value"], item["origin"]) == ("epochs", 3, "OVERRIDE")
    body["config"] = {"overrides": {"epochs": 0, "learning_rat": 0.1}}
    status, answer = await _post(site, "/plan", body)
    assert (status, answer["error"]["reason"]) == (400, "INVALID_CONFIG")
    assert {v["field"] for v in answer["error"]["violations"]} == {"epochs", "learning_rat"}


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "sentence"),
    [
        ("GET", "/nothing", None, 404, "there is no path '/api/v1/nothing'"),
        ("PUT", "/runs", None, 405, "this path takes GET, POST, not PUT"),
        ("GET", "/runs/nothing", None, 404, "there is no run 'nothing'"),
        ("GET", "/runs/..%2f..%2fetc", None, 404, "there is no run '../../etc'"),
        ("GET", "/runs/%ff%00", None, 404, "there is no run"),
        ("GET", "/runs?stats=RUNNING", None, 400, "did you mean 'states'?"),
        ("GET", "/runs?states=DONE", None, 400, "states[0] must be one of CREATED, QUEUED"),
        ("GET", "/runs?page_size=-1", None, 400, "page_size must be between 0 and 4294967295"),
        ("GET", "/runs?page_size=x", None, 400, "page_size must be a whole number, got text"),
        ("GET", "/runs?page_size=1&page_size=2", None, 400, "page_size is given 2 times"),
        ("GET", "/runs?" + "metrics=a&" * 101, None, 400, "metrics must be between 0 and 100"),
        ("GET", f"/runs?metrics={'a' * 2000}", None, 400, "metrics may have at most"),
        ("GET", "/runs?page_token=x", None, 400, "page_token must be the next_page_token"),
        (
            "GET",
            "/server?x=1",
            None,
            400,
            "'x' is not a parameter of this path; there are with_gpus",
        ),
        ("GET", "/experiments?x=1", None, 400, "not a parameter of this path; there are none"),
        ("POST", "/runs?x=1", "{}", 400, "'x' is not a parameter of this path"),
        ("POST", "/runs", "[]", 400, "the body must be a JSON object"),
        ("POST", "/runs", "{", 400, "the body is not JSON"),
        ("POST", "/runs", '{"a":' * 5000, 400, "the body is not JSON"),
        ("POST", "/runs", '{"name":NaN}', 400, "JSON has no NaN"),
        ("POST", "/runs", '{"name":"\\ud800"}', 400, "name is not valid Unicode"),
        ("POST", "/runs", '{"experimen":"mnist"}', 400, "did you mean 'experiment'?"),
        ("POST", "/runs", '{"config":{"overrides":{"a":{}}}}', 400, "config.overrides.a must be"),
        ("POST", "/runs", _with_a(str(2**70)), 400, "more than 64 bits"),
        ("POST", "/runs", _with_a("[" * 30 + "]" * 30), 400, "deep"),
        ("POST", "/runs", '{"config":3}', 400, "config must be an object, got a number"),
        ("POST", "/runs", '{"tags":"a"}', 400, "tags must be a list, got text"),
        ("POST", "/runs", '{"options":{"priority":1e99}}', 400, "options.priority must be between"),
        ("POST", "/runs", '{"experiment":"mnits"}', 404, "did you mean 'mnist'?"),
        ("POST", "/runs/x/start", '{"resume":true}', 400, "resume cannot be set here"),
        ("POST", "/runs/x/start", '{"run_id":"y"}', 400, "run_id cannot be set here"),
        ("POST", "/runs/x/update", "{}", 400, "update_mask must name the fields to change"),
        ("POST", "/runs/x/update", '{"update_mask":[]}', 400, "update_mask cannot be set here"),
    ],
)
async def test_bad_input_gets_a_status_and_a_sentence(
    site: aiohttp.ClientSession, verb: str, path: str, body: str | None, status: int, sentence: str
) -> None:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    async with site.request(verb, API + path, data=body, headers=headers) as response:
        answer = await response.json()
    assert (response.status, sentence in answer["error"]["message"]) == (status, True), answer


async def test_a_body_that_is_not_json_or_too_large_is_refused(surface: Surface) -> None:
    async with open_site(surface, max_message_bytes=2 << 20) as site:
        async with site.post(f"{API}/runs", data={"experiment": "mnist"}) as response:
            assert response.status == 415
        async with site.post(f"{API}/runs", json={"notes": "x" * (2 << 20)}) as response:
            assert response.status == 413
            assert "max_message_bytes" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [(f"{API}/runs", "application/json"), ("/new", "application/x-www-form-urlencoded")],
)
async def test_a_body_that_does_not_come_is_waited_for_only_so_long(
    site: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.05)

    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with site.post(path, data=half(), headers={"Content-Type": kind}) as response:
        assert response.status == 408
        assert "longer than 0.05 s" in await response.text()


@pytest.mark.parametrize("host", ["evil.test", "localhost.evil.test", "", "a@b", "[::1"])
async def test_another_hosts_name_is_refused_also_without_tokens(
    site: aiohttp.ClientSession, host: str
) -> None:
    status, answer = await _get(site, "/runs", Host=host)
    assert (status, answer["error"]["reason"]) == (421, "UNKNOWN_HOST")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "lab.localhost:80", "[::1]:8080"])
async def test_its_own_names_and_addresses_are_served(
    site: aiohttp.ClientSession, host: str
) -> None:
    assert (await _get(site, "/runs", Host=host))[0] == 200


async def test_an_administrator_allows_further_names(surface: Surface) -> None:
    async with open_site(surface, allowed_hosts="gpu.lab.test,other.test") as site:
        assert (await _get(site, "/runs", Host="gpu.lab.test:8080"))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of the same host
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:1", "Host": "127.0.0.1:2"}, 403),
        ({"Origin": "http://127.0.0.1:2", "Host": "127.0.0.1:2"}, 200),
        ({"Origin": "null"}, 403),
    ],
)
async def test_another_sites_page_changes_nothing(
    surface: Surface, site: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    answer = await _post(site, "/runs", {"experiment": "mnist"}, **headers)
    assert answer[0] == status
    listed = await surface.store.list(_everything())
    assert len(listed.runs) == (status == 200)


def _everything() -> Any:
    from lab_server.store import RunQuery

    return RunQuery()


def test_numbers_that_json_does_not_have_come_through_both_ways() -> None:
    run = run_pb2.Run(metrics={"loss": math.nan, "gain": math.inf, "cost": -math.inf, "x": 1.5})
    run.config.overrides["a"].double_value = math.inf
    data = json.loads(json.dumps(to_json(run), allow_nan=False))
    assert data["metrics"] == {"cost": "-Infinity", "gain": "Infinity", "loss": "NaN", "x": 1.5}
    again = config_pb2.ConfigMessage()
    from_json(again, data["config"])
    assert again.overrides["a"].double_value == math.inf


def test_a_whole_number_and_a_float_stay_what_they_are() -> None:
    message = config_pb2.ConfigMessage()
    from_json(message, json.loads('{"overrides": {"i": 1, "f": 1.0, "l": [true, null, "x"]}}'))
    kinds = {key: value.WhichOneof("kind") for key, value in message.overrides.items()}
    assert kinds == {"i": "int_value", "f": "double_value", "l": "list_value"}
    assert json.dumps(to_json(message)["overrides"]) == '{"f": 1.0, "i": 1, "l": [true, null, "x"]}'


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_json(pb.StopRunRequest(), {"checkpoint": 1, "grace_s": "x", "run_id": 2})
    assert [v.key for v in caught.value.violations] == ["checkpoint", "grace_s", "run_id"]


async def test_the_document_has_every_route_and_no_other(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    _, document = await _get(site, "/openapi.json")
    described = {
        (verb.upper(), path)
        for path, operations in document["paths"].items()
        for verb in operations
    }
    assert {(route.verb, route.path) for route in ROUTES} <= described
    served = {
        (route.method, route.resource.canonical)
        for route in _served_routes(surface)
        if route.resource is not None
        and route.resource.canonical.startswith(API)
        and route.method != "HEAD"
    }
    served = {(verb, path.replace(":.+", "")) for verb, path in served}
    assert described == served - {("GET", f"{API}/openapi.json")}


def _served_routes(surface: Surface) -> Any:
    """Return the routes of the application as the server makes it."""
    from aiohttp import web

    from lab_server.api.gate import Gate
    from lab_server.api.site import add_api
    from lab_server.settings.address import Address

    app = web.Application()
    gate = Gate(Address("localhost", 0), (), None, surface.site.sessions)
    add_api(app, gate, surface.site)
    return app.router.routes()


async def test_the_document_says_what_the_proto_says(site: aiohttp.ClientSession) -> None:
    _, document = await _get(site, "/openapi.json")
    run = document["components"]["schemas"]["Run"]["properties"]
    assert run["step"]["description"] == "The last global step that is recorded."
    undescribed = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, inner in schema.get("properties", {}).items()
        if "description" not in inner and name not in ("Error", "Value")
    ]
    assert undescribed == []


async def test_without_a_dashboard_there_are_metrics_only(surface: Surface) -> None:
    from lab_server.http.server import Http
    from lab_server.settings.address import Address, listen

    http = Http(surface.exporter, lambda: True, handshake_s=600)
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with aiohttp.ClientSession(url) as client:
            async with client.get("/metrics") as response:
                assert response.status == 200
            async with client.get(f"{API}/runs") as response:
                assert response.status == 404
        await http.close()
