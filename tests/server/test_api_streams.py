"""The paths of the HTTP API that are no plain RPC: events, curves, logs, files, forks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import pytest

from lab_server.api.events import PAUSE_S
from lab_server.files.log_levels import RECORD
from lab_server.messages import events
from lab_server.model.log_level import LogLevel
from lab_server.model.roles import Role
from lab_server.model.run import Run, RunState
from lab_server.security.tokens import TokenFile, Tokens
from lab_server.watch.history_writer import HistoryWriter
from tests.server.conftest import Surface, open_site, open_surface

API = "/api/v1"


@dataclass
class Column:
    """Values of a metric."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass
class Chart:
    """A decoded answer of `/curves`."""

    header: dict[str, Any]
    x: list[float]
    columns: list[dict[str, list[float]]]


async def _chart(site: aiohttp.ClientSession, query: str) -> Chart:
    async with site.get(f"{API}/curves?{query}") as response:
        data = await response.read()
        assert response.status == 200, data
    (length,) = struct.unpack("<I", data[4:8])
    assert data[:4] == b"LABC"
    assert (8 + length) % 8 == 0, "browsers take aligned arrays only"
    header = json.loads(data[8 : 8 + length])
    num = 1 + len(header["curves"]) * len(header["columns"])
    doubles = np.frombuffer(data[8 + length :], "<f8").reshape(num, header["num_x"])
    names = header["columns"]
    columns = [
        {name: list(doubles[1 + index * len(names) + at]) for at, name in enumerate(names)}
        for index in range(len(header["curves"]))
    ]
    return Chart(header, list(doubles[0]), columns)


async def _measured(surface: Surface, *columns: Column, **request: Any) -> Run:
    run = await surface.run(RunState.RUNNING, **request)
    return await surface.supervisor.say(run, *events.encode_metrics(1, 1, columns))


# ---- curves


async def test_few_points_are_shown_as_they_are_and_runs_share_their_steps(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    one = await _measured(surface, Column("loss", [1, 2, 3], [3.0, 2.0, 1.0]))
    two = await _measured(surface, Column("loss", [2, 4], [5.0, 6.0]))
    chart = await _chart(site, f"runs={one.id}&runs={two.id}&metrics=loss")
    assert chart.x == [1, 2, 3, 4]
    assert [curve["run"] for curve in chart.header["curves"]] == [one.id, two.id]
    np.testing.assert_equal(chart.columns[0]["last"], [3, 2, 1, math.nan])
    np.testing.assert_equal(chart.columns[1]["mean"], [math.nan, 5, math.nan, 6])


@pytest.mark.parametrize("num", [1000, 50_000])
async def test_many_points_are_in_buckets_on_common_edges(
    surface: Surface, site: aiohttp.ClientSession, num: int
) -> None:
    values = np.sin(np.arange(num) / 50)
    values[num // 2] = 9.0
    run = await _measured(surface, Column("loss", range(num), list(values)))
    other = await _measured(surface, Column("loss", range(0, num, 2), [1.0] * (num // 2)))
    chart = await _chart(site, f"runs={run.id}&runs={other.id}&metrics=loss&buckets=100")
    edges = np.linspace(0, num - 1, 101)
    place = np.minimum(np.searchsorted(edges, np.arange(num), side="right") - 1, 99)
    each = [values[place == bucket] for bucket in range(100)]
    np.testing.assert_allclose(chart.x, (edges[1:] + edges[:-1]) / 2)
    np.testing.assert_allclose(chart.columns[0]["min"], [v.min() for v in each])
    np.testing.assert_allclose(chart.columns[0]["max"], [v.max() for v in each])
    np.testing.assert_allclose(chart.columns[0]["mean"], [v.mean() for v in each])
    np.testing.assert_allclose(chart.columns[0]["last"], [v[-1] for v in each])
    assert chart.columns[1]["mean"] == [1.0] * 100


async def test_zooming_asks_for_a_range_and_gets_its_own_buckets(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await _measured(surface, Column("loss", range(1000), [float(i) for i in range(1000)]))
    chart = await _chart(site, f"runs={run.id}&metrics=loss&buckets=10&min=500&max=503")
    assert chart.x == [500, 501, 502, 503]
    assert chart.columns[0]["last"] == [500, 501, 502, 503]


async def test_smoothing_depends_neither_on_zoom_nor_on_what_comes_later(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    rng = np.random.default_rng(1)
    noise = [float(v) for v in rng.normal(size=3000)]
    run = await _measured(surface, Column("loss", range(2000), noise[:2000]))
    query = f"runs={run.id}&metrics=loss&smoothing=25&min=1900&max=1950&buckets=100"
    before = (await _chart(site, query)).columns[0]["smooth"]
    await surface.supervisor.say(
        run, *events.encode_metrics(1, 1, [Column("loss", range(2000, 3000), noise[2000:])])
    )
    after = await _chart(site, query)
    np.testing.assert_allclose(after.columns[0]["smooth"], before, rtol=1e-6)
    whole = await _chart(site, f"runs={run.id}&metrics=loss&smoothing=25&buckets=4000")
    shown = dict(zip(whole.x, whole.columns[0]["smooth"], strict=True))
    np.testing.assert_allclose([shown[x] for x in after.x], before, rtol=1e-6)
    weights = np.exp(-np.arange(1900, -1, -1) / 25)
    expected = float((weights * noise[:1901]).sum() / weights.sum())
    assert before[0] == pytest.approx(expected, rel=1e-6)


async def test_curves_have_the_columns_that_are_asked_for(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await _measured(surface, Column("loss", range(4), [4.0, 3.0, 2.0, 1.0]))
    whole = await _chart(site, f"runs={run.id}&metrics=loss")
    some = await _chart(site, f"runs={run.id[:-1]}&metrics=loss&columns=max&columns=min")
    assert list(whole.columns[0]) == ["min", "max", "mean", "last"]
    assert some.columns[0] == {name: whole.columns[0][name] for name in ("min", "max")}
    smooth = await _chart(site, f"runs={run.id}&metrics=loss&columns=mean&smoothing=2")
    assert list(smooth.columns[0]) == ["mean", "smooth"]


async def test_curves_beyond_those_that_an_answer_may_have_are_counted(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    columns = [Column(f"m{index:03}", [1], [1.0]) for index in range(250)]
    runs = [await _measured(surface, *columns) for _ in range(2)]
    chart = await _chart(site, f"runs={runs[0].id}&runs={runs[1].id}&metrics=m*")
    shown = [(curve["run"], curve["metric"]) for curve in chart.header["curves"]]
    assert len(shown) == 400
    assert shown[-1] == (runs[1].id, "m149")
    assert chart.header["num_left_out"] == 100


async def test_nan_and_infinities_leave_gaps_and_are_counted(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    values = [1.0, math.nan, math.inf, 2.0, -math.inf]
    run = await _measured(surface, Column("loss", range(5), values))
    chart = await _chart(site, f"runs={run.id}&metrics=loss")
    np.testing.assert_equal(chart.columns[0]["last"], [1, math.nan, math.nan, 2, math.nan])
    assert chart.header["curves"][0]["num_not_finite"] == 3


async def test_a_resumed_runs_curve_is_cut_and_not_doubled(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await _measured(surface, Column("loss", range(10), [1.0] * 10))
    again = events.encode_metrics(2, 1, [Column("loss", [5, 6], [2.0, 2.0])])
    await surface.supervisor.say(run, events.encode_truncate(2, 1, 4, 4), *again)
    chart = await _chart(site, f"runs={run.id}&metrics=loss")
    assert chart.x == [0, 1, 2, 3, 4, 5, 6]
    assert chart.columns[0]["last"] == [1.0] * 5 + [2.0] * 2


async def test_curves_that_are_asked_for_again_have_what_came_since(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await _measured(surface, Column("loss", range(10), [1.0] * 10))
    query = f"runs={run.id}&metrics=loss"
    assert len((await _chart(site, query)).x) == 10
    run = await surface.supervisor.say(
        run, *events.encode_metrics(1, 1, [Column("loss", [10], [1.0])])
    )
    assert (await _chart(site, query)).x == list(range(11))
    again = events.encode_metrics(2, 1, [Column("loss", [5, 6], [2.0, 2.0])])
    run = await surface.supervisor.say(run, events.encode_truncate(2, 1, 4, 4), *again)
    assert (await _chart(site, query)).columns[0]["last"] == [1.0] * 5 + [2.0] * 2
    await HistoryWriter(surface.store).write(run.id)
    assert (await _chart(site, query)).columns[0]["last"] == [1.0] * 5 + [2.0] * 2
    await surface.supervisor.say(run, *events.encode_metrics(2, 1, [Column("loss", [7], [3.0])]))
    assert (await _chart(site, query)).columns[0]["last"] == [1.0] * 5 + [2.0] * 2 + [3.0]


async def test_x_may_be_time_or_epochs(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await _measured(
        surface, Column("loss", [10, 20, 30], [3.0, 2.0, 1.0]), config={"overrides": {}}
    )
    second = 10**9
    told = [
        events.encode_progress(1, 100 * second, 0, 100, 1.0),
        events.encode_progress(1, 110 * second, 20, 100, 2.0),
        events.encode_progress(1, 130 * second, 40, 100, 1.0),
    ]
    await surface.supervisor.say(run, *told)
    query = f"runs={run.id}&metrics=loss"
    assert (await _chart(site, f"{query}&x=wall")).x == [105, 110, 120]
    assert (await _chart(site, f"{query}&x=relative")).x == [5, 10, 20]
    # 100 steps are the 10 epochs of the experiment's default
    assert (await _chart(site, f"{query}&x=epoch")).x == [1, 2, 3]
    no_time = await _measured(surface, Column("loss", [1], [1.0]))
    chart = await _chart(site, f"runs={no_time.id}&metrics=loss&x=wall")
    assert (chart.x, chart.header["without_axis"]) == ([], [no_time.id])


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("", 400, "runs must be given 1 to 100 times, got 0"),
        ("runs=RUN", 400, "metrics must be given 1 to 50 times"),
        ("runs=RUN&metrics=a&x=day", 400, "x must be one of step, epoch, relative, wall"),
        ("runs=RUN&metrics=a&columns=mode", 400, "columns must be one of min, max, mean, last"),
        ("runs=RUN&metrics=a&buckets=1", 400, "buckets must be between 10 and 4000"),
        ("runs=RUN&metrics=a&buckets=ten", 400, "buckets must be a whole number, got 'ten'"),
        ("runs=RUN&metrics=a&min=nan", 400, "min must be a number, got 'nan'"),
        ("runs=RUN&metrics=a&min=1&max=1", 400, "max must be more than min"),
        ("runs=RUN&metrics=a&smoothing=-1", 400, "smoothing must be between 0 and"),
        ("runs=RUN&metrics=a&smooth=1", 400, "'smooth' is not a parameter of this path"),
        ("runs=x&metrics=a", 404, "there is no run 'x'"),
        (f"runs=RUN&metrics={'a' * 300}", 400, "at most 200 characters"),
    ],
)
async def test_curves_that_cannot_be_get_a_sentence(
    surface: Surface, site: aiohttp.ClientSession, query: str, status: int, sentence: str
) -> None:
    run = await surface.run()
    async with site.get(f"{API}/curves?{query.replace('RUN', run.id)}") as response:
        answer = await response.json()
    assert (response.status, sentence in answer["error"]["message"]) == (status, True), answer


# ---- events


class Reader:
    """Reads server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> tuple[str, str, Any]:
        """Return the id, the name and the data of the next event; heartbeats are passed over."""
        found: dict[str, str] = {}
        async with asyncio.timeout(30):
            while True:
                line = (await self._response.content.readline()).decode()
                assert line, "the stream has ended"
                if line == "\n" and found:
                    data = json.loads(found["data"])
                    return found.get("id", ""), found["event"], data
                name, _, value = line.rstrip("\n").partition(": ")
                if name:
                    found[name] = value


async def test_events_tell_which_runs_changed_and_go_on_after_the_last_one(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    async with site.get(f"{API}/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        reader = Reader(response)
        start, name, _ = await reader.next()
        assert name == "hello"
        column = Column("loss", [3], [1.0])
        await surface.supervisor.say(run, *events.encode_metrics(1, 1, [column]))
        last, name, data = await reader.next()
        assert (name, len(data["runs"])) == ("runs", 1)
        assert data["runs"][0] | {"id": run.id, "step": 3, "kinds": ["metrics"]} == data["runs"][0]
    other = await surface.run(RunState.QUEUED)
    for cursor, expected in ((last, {other.id}), (start, {run.id, other.id})):
        async with site.get(f"{API}/events", headers={"Last-Event-ID": cursor}) as response:
            reader = Reader(response)
            await reader.next()
            seen: set[str] = set()
            while seen != expected:
                seen |= {run["id"] for run in (await reader.next())[2]["runs"]}
                assert seen <= expected


async def test_who_is_behind_a_busy_log_gets_the_rest_without_a_pause(
    surface: Surface, site: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio, "sleep", _no_pause(asyncio.sleep))
    run = await surface.run(RunState.RUNNING)
    async with site.get(f"{API}/events") as response:
        start, *_ = await Reader(response).next()
    for step in range(0, 100_000, 1000):
        column = Column("loss", range(step, step + 1000), [0.1] * 1000)
        run = await surface.supervisor.say(run, *events.encode_metrics(1, 1, [column]))
    async with site.get(f"{API}/events", headers={"Last-Event-ID": start}) as response:
        reader = Reader(response)
        last = ""
        while last != str(await surface.store.last_position()):
            last, *_ = await reader.next()


def _no_pause(sleep: Any) -> Any:
    """Return a sleep that never ends if it is as long as the pause between two events."""

    async def sleep_or_hang(delay_s: float, result: Any = None) -> Any:
        return await sleep(math.inf if delay_s >= PAUSE_S else delay_s, result)

    return sleep_or_hang


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 30])
async def test_a_cursor_that_is_none_is_refused(site: aiohttp.ClientSession, cursor: str) -> None:
    async with site.get(f"{API}/events", headers={"Last-Event-ID": cursor}) as response:
        assert response.status == 400


async def test_a_cursor_that_is_ahead_of_the_server_is_refused(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    await surface.run(RunState.RUNNING)
    last = await surface.store.last_position()
    async with site.get(f"{API}/events", headers={"Last-Event-ID": f"{last + 1}"}) as response:
        assert response.status == 400
        answer = await response.json()
        assert answer["error"]["message"] == (
            f"cursor is {last + 1}, but the server's last event is {last}: it is of another server, or of"
            " before this one was restored; begin without it"
        )
    async with site.get(f"{API}/events", headers={"Last-Event-ID": f"{last}"}) as response:
        assert response.status == 200


async def test_a_revoked_token_ends_the_open_stream(tmp_path: Any) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token = file.create("vick", Role.VIEWER)
    async with (
        open_surface(tmp_path, Tokens(tmp_path / "tokens.json")) as surface,
        open_site(surface) as site,
    ):
        headers = {"Authorization": f"Bearer {token}"}
        async with site.get(f"{API}/events", headers=headers) as response:
            reader = Reader(response)
            await reader.next()
            file.revoke(token.split("_")[1])
            _, name, data = await reader.next()
            assert (name, data["error"]["code"]) == ("end", "UNAUTHENTICATED")
            assert await response.content.read() == b""


async def test_streams_are_limited_as_those_of_grpc(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    opened = [await site.get(f"{API}/events") for _ in range(3)]
    async with site.get(f"{API}/events") as response:
        assert response.status == 429
    for response in opened:
        response.close()


async def test_a_server_that_stops_ends_open_streams_at_once(surface: Surface) -> None:
    async with open_site(surface) as site:
        response = await site.get(f"{API}/events")
        await Reader(response).next()
    with contextlib.suppress(aiohttp.ClientError, RuntimeError):  # the connection is closed
        assert await asyncio.wait_for(response.content.read(), 30) == b""


# ---- logs, files, forks


async def test_the_end_of_a_log_is_whole_lines_and_goes_on_from_there(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run()
    folder = surface.folder_of(run)
    path = f"{API}/runs/{run.id}/logs"
    async with site.get(path) as response:
        assert await response.json() == {
            "text": "",
            "levels": [],
            "offset": 0,
            "next_offset": 0,
            "size_bytes": 0,
        }
    folder.mkdir(parents=True)
    lines = [f"line {i} äöü\n" for i in range(100)]
    (folder / "log.txt").write_text("".join(lines) + "not yet")
    async with site.get(f"{path}?offset=-100") as response:
        tail = await response.json()
    assert tail["text"] == "".join(lines[-6:])
    assert tail["levels"] == ["STDOUT"] * 6
    with (folder / "log.txt").open("a") as file:
        file.write(" whole\n")
    size = (folder / "log.txt").stat().st_size
    (folder / "log.levels").write_bytes(RECORD.pack(tail["next_offset"], size, LogLevel.WARNING))
    async with site.get(f"{path}?offset={tail['next_offset']}") as response:
        answer = await response.json()
        assert answer["text"] == "not yet whole\n"
        assert answer["levels"] == ["WARNING"]
    async with site.get(f"{path}?offset=99999999") as response:
        assert (await response.json())["text"] == ""


async def test_a_log_that_became_a_link_shows_nothing_of_its_target(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run()
    folder = surface.folder_of(run)
    folder.mkdir(parents=True)
    (folder / "log.txt").symlink_to("/etc/passwd")
    async with site.get(f"{API}/runs/{run.id}/logs") as response:
        assert (await response.json())["text"] == ""


async def test_a_file_is_downloaded_whole_and_from_an_offset_and_never_shown(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run()
    folder = surface.folder_of(run) / "a ü"
    folder.mkdir(parents=True)
    content = b"<script>alert(1)</script>" * 30000
    (folder / "x<b>.html").write_bytes(content)
    path = f"{API}/runs/{run.id}/files"
    async with site.get(path) as response:
        assert (await response.json())["artifacts"][0]["path"] == "a ü/x<b>.html"
    async with site.get(f"{path}/a ü/x<b>.html") as response:
        assert await response.read() == content
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"].startswith("attachment;")
        assert "sandbox" in response.headers["Content-Security-Policy"]
    async with site.get(f"{path}/a ü/x<b>.html?offset=700000") as response:
        assert await response.read() == content[700000:]
    for bad, status in (
        ("nothing", 404),
        ("..%2f..%2fsecret", 404),
        ("a ü/x<b>.html?offset=9e9", 400),
    ):
        async with site.get(f"{path}/{bad}") as response:
            assert response.status == status


async def test_a_download_whose_file_is_cut_meanwhile_is_no_whole_file(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run()
    folder = surface.folder_of(run)
    folder.mkdir(parents=True)
    size = (64 << 20) + 200  # more than connections hold, and at last less than an error takes
    with (folder / "model.pt").open("wb") as file:
        file.truncate(size)
    async with site.get(f"{API}/runs/{run.id}/files/model.pt") as response:
        assert response.content_length == size
        await response.content.readexactly(1000)
        os.truncate(folder / "model.pt", size - 100)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_fork_may_have_code_of_its_own(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.STOPPED)
    (surface.folder_of(run) / "checkpoints" / "7").mkdir(parents=True)
    body = {"step": 7, "upload_id": "0" * 64}
    async with site.post(f"{API}/runs/{run.id}/fork", json=body) as response:
        answer = await response.json()
        assert (response.status, answer["error"]["message"]) == (
            404,
            f"there is no upload '{'0' * 64}'; send the code first",
        )


async def test_a_fork_has_its_parents_configs_and_the_changes(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    config = {"overrides": {"epochs": {"int_value": 2}, "label": {"string_value": "x"}}}
    run = await surface.run(RunState.STOPPED, config=config, tags=["a"], name="parent")
    (surface.folder_of(run) / "checkpoints" / "7").mkdir(parents=True)
    body = {"step": 7, "config": {"overrides": {"epochs": 5}}, "notes": "longer"}
    async with site.post(f"{API}/runs/{run.id}/fork", json=body) as response:
        fork = (await response.json())["run"]
    assert fork["config"]["overrides"] == {"epochs": 5, "label": "x"}
    assert fork["parent"] == {"run_id": run.id, "step": 7}
    assert (fork["name"], fork["tags"], fork["notes"]) == ("parent", ["a"], "longer")
    for bad, sentence in (
        ({"experiment": "mnist"}, "experiment cannot be set here"),
        ({"step": -1}, "parent.step must be between 0"),
        ({"stop": 3}, "stop is not a field of this request"),
        ({"config": {"overrides": {"epochs": 0}}}, "epochs"),
    ):
        async with site.post(f"{API}/runs/{run.id}/fork", json=bad) as response:
            answer = await response.json()
            assert (response.status, sentence in answer["error"]["message"]) == (400, True), answer
