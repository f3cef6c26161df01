"""/metrics, /healthz and /readyz, scraped over HTTP from a service that a test drives."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator, Mapping
from typing import NoReturn

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab_rpc.v1 import training_service_pb2
from lab_server.errors import StoreError
from lab_server.http import exporter
from lab_server.http.server import Http
from lab_server.messages import events
from lab_server.model.run import RunState, TrainerProcess
from lab_server.model.slot import Slot
from lab_server.settings.address import Address, listen
from tests.server.conftest import Surface

pb = training_service_pb2
Labels = frozenset[tuple[str, str]]


class Scraper:
    """Gets pages of the HTTP server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session

    async def status(self, path: str) -> int:
        async with self._session.get(self._url + path) as response:
            return response.status

    async def series(self) -> Mapping[tuple[str, Labels], float]:
        """Return the value of each series by name and labels."""
        async with self._session.get(self._url + "/metrics") as response:
            assert response.status == 200
            text = await response.text()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def of_run(self, run_id: str) -> dict[str, float]:
        """Return the values of a run's series by name, of a metric by its own name."""
        found = {}
        for (name, labels), value in (await self.series()).items():
            if ("run", run_id) in labels:
                found[dict(labels).get("metric", name)] = value
        return found


@pytest.fixture
async def scraper(surface: Surface) -> AsyncIterator[Scraper]:
    http = Http(surface.exporter, lambda: surface.health.is_serving, handshake_s=600)
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        async with aiohttp.ClientSession() as session:
            yield Scraper(f"http://127.0.0.1:{listening.getsockname()[1]}", session)
        await http.close()


async def test_a_run_has_series_while_it_trains_and_none_after(
    surface: Surface, scraper: Scraper
) -> None:
    run = await surface.run(RunState.RUNNING)
    process = TrainerProcess(1, 1)
    run = await surface.supervisor.move(run, RunState.RUNNING, process=process)
    column = _Column("train_loss", [1, 2], [1.0, math.nan])
    metrics = events.encode_metrics(1, 1, [column])
    run = await surface.supervisor.say(run, *metrics, events.encode_progress(1, 1, 30, 120, 4.5))
    found = await scraper.of_run(run.id)
    assert math.isnan(found.pop("train_loss"))
    assert found == {
        "lab_run_step": 30,
        "lab_run_steps": 120,
        "lab_run_progress_ratio": 0.25,
        "lab_run_steps_per_second": 4.5,
        "lab_run_attempt": 1,
        "lab_run_start_time_seconds": 0,
        "lab_event_lag_seconds": 0.25,
        "lab_run_cpu_seconds_total": 1.5,
        "lab_run_memory_bytes": 1 << 20,
    }
    await surface.supervisor.move(run, RunState.COMPLETED, slot="")
    assert not await scraper.of_run(run.id)


async def test_without_the_store_what_needs_none_is_told(
    surface: Surface, scraper: Scraper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> NoReturn:
        raise StoreError("the store is away")

    before = await scraper.series()
    assert before["lab_store_up", frozenset()] == 1
    monkeypatch.setattr(surface.store, "counts", refuse)
    found = await scraper.series()
    assert found["lab_store_up", frozenset()] == 0
    assert {name for name, _ in before} - {name for name, _ in found} == {"lab_runs"}


async def test_a_store_that_hangs_is_told_and_asked_once(
    surface: Surface, scraper: Scraper, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, num_asked = asyncio.Event(), 0
    count = surface.store.counts

    async def hang() -> Mapping[RunState, int]:
        nonlocal num_asked
        num_asked += 1
        await goes_on.wait()
        return await count()

    monkeypatch.setattr(exporter, "_STORE_S", 0.05)
    monkeypatch.setattr(surface.store, "counts", hang)
    for found in await asyncio.gather(scraper.series(), scraper.series()):
        assert found["lab_store_up", frozenset()] == 0
    assert ("lab_store_up", frozenset()) in await scraper.series()
    assert num_asked == 1
    goes_on.set()
    assert (await scraper.series())["lab_store_up", frozenset()] == 1


@pytest.mark.slow
async def test_many_short_runs_leave_as_many_series_as_none(
    surface: Surface, scraper: Scraper
) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.move(run, RunState.COMPLETED, slot="")
    before = set(await scraper.series())
    for _ in range(200):
        run = await surface.run(RunState.RUNNING)
        await surface.supervisor.move(run, RunState.COMPLETED, slot="")
    after = await scraper.series()
    assert set(after) == before
    assert after["lab_runs", frozenset({("state", "COMPLETED")})] == 201


async def test_states_queue_and_slots_are_counted(surface: Surface, scraper: Scraper) -> None:
    await surface.run(RunState.RUNNING)
    await surface.run(RunState.QUEUED)
    series = await scraper.series()
    assert series["lab_runs", frozenset({("state", "RUNNING")})] == 1
    assert series["lab_runs", frozenset({("state", "FAILED")})] == 0
    assert series["lab_queue_length", frozenset()] == 1
    assert series["lab_queue_limit", frozenset()] == 3
    assert series["lab_slots", frozenset({("state", "busy")})] == 1
    assert series["lab_slots", frozenset({("state", "free")})] == 1
    assert series["lab_home_free_bytes", frozenset()] > 0
    assert series["process_resident_memory_bytes", frozenset()] > 0


async def test_the_slots_of_agents_are_counted_by_pool(surface: Surface, scraper: Scraper) -> None:
    assert not any(name == "lab_pool_slots" for name, _ in await scraper.series())
    surface.executor.slots = [
        Slot("gpus/a/cpu:0", "cpu", "gpus"),
        Slot("gpus/b/cpu:0", "cpu", "gpus"),
    ]
    run = await surface.run(RunState.QUEUED)
    await surface.supervisor.move(run, RunState.RUNNING, slot="gpus/b/cpu:0", attempt=1)
    series = await scraper.series()
    states = {state: frozenset({("pool", "gpus"), ("state", state)}) for state in ("busy", "free")}
    assert [series["lab_pool_slots", states[state]] for state in ("busy", "free")] == [1, 1]


async def test_a_run_that_tracks_thousands_of_metrics_is_cut(
    surface: Surface, scraper: Scraper
) -> None:
    run = await surface.run(RunState.RUNNING)
    columns = [_Column(f"parameter.{index}", [1], [1.0]) for index in range(2000)]
    await surface.supervisor.say(run, *events.encode_metrics(1, 1, columns))
    found = await scraper.of_run(run.id)
    assert sum(name.startswith("parameter.") for name in found) == 500


async def test_names_of_any_kind_are_escaped_as_labels(surface: Surface, scraper: Scraper) -> None:
    run = await surface.run(RunState.RUNNING)
    name = 'a"b\\c\nd ö'
    await surface.supervisor.say(run, *events.encode_metrics(1, 1, [_Column(name, [1], [2.0])]))
    assert (await scraper.of_run(run.id))[name] == 2.0


@pytest.mark.slow
async def test_calls_of_every_kind_are_counted_with_their_code(
    surface: Surface, scraper: Scraper
) -> None:
    run = await surface.run(RunState.COMPLETED)
    running = await surface.run(RunState.RUNNING)
    async for _ in surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id)):
        pass
    with pytest.raises(grpc.aio.AioRpcError):
        await surface.stub.GetRun(pb.GetRunRequest(run_id="none"))
    watch = surface.stub.WatchRun(pb.WatchRunRequest(run_id=running.id))
    await watch.read()
    watch.cancel()
    late = surface.stub.WatchRun(pb.WatchRunRequest(run_id=running.id), timeout=1.5)
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in late:
            pass

    def handled(series: Mapping[tuple[str, Labels], float], method: str, code: str) -> float:
        labels = {
            "grpc_service": "lab_rpc.v1.TrainingService",
            "grpc_method": method,
            "grpc_code": code,
        }
        return series.get(("grpc_server_handled_total", frozenset(labels.items())), 0)

    async with asyncio.timeout(60):  # the server hears of a cancellation later than the client
        while True:
            series = await scraper.series()
            over = sum(handled(series, "WatchRun", c) for c in ("CANCELLED", "DEADLINE_EXCEEDED"))
            if over == 2:
                break
            await asyncio.sleep(0)
    assert handled(series, "CreateRun", "OK") == 2
    assert handled(series, "WatchRun", "OK") == 1
    assert handled(series, "GetRun", "NOT_FOUND") == 1
    labels = frozenset(
        {("grpc_service", "lab_rpc.v1.TrainingService"), ("grpc_method", "WatchRun")}
    )
    assert series["grpc_server_started_total", labels] == 3
    assert series["grpc_server_handling_seconds_count", labels] == 3


async def test_the_openmetrics_format_is_given_to_who_asks(surface: Surface) -> None:
    body, content_type = await surface.exporter.scrape("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_alive_is_not_ready(surface: Surface, scraper: Scraper) -> None:
    assert await scraper.status("/healthz") == 200
    assert await scraper.status("/readyz") == 503
    surface.health.set_serving(True)
    assert await scraper.status("/readyz") == 200
    assert await scraper.status("/nothing") == 404


async def test_a_connection_that_says_nothing_is_closed(surface: Surface) -> None:
    http = Http(surface.exporter, lambda: surface.health.is_serving, handshake_s=0.1)
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow")
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        await http.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    ],
)
async def test_malformed_http_costs_a_line_and_no_traceback(
    surface: Surface, lines: io.StringIO, data: bytes
) -> None:
    http = Http(surface.exporter, lambda: surface.health.is_serving, handshake_s=60)
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        before = lines.tell()
        for first in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(first + data)
            async with asyncio.timeout(60):
                answer = await reader.read()
            writer.close()
            assert b"400 Bad Request" in answer
        await http.close()
    written = lines.getvalue()[before:]
    assert "Traceback" not in written
    assert len(written.splitlines()) <= 2
    assert '"level": "error"' not in written


async def test_a_body_that_cannot_be_decoded_costs_a_line_too(
    surface: Surface, lines: io.StringIO
) -> None:
    http = Http(surface.exporter, lambda: surface.health.is_serving, handshake_s=60)
    with listen(Address.parse("127.0.0.1:0")) as listening:
        await http.start(listening)
        before = lines.tell()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        head = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
        writer.write(head.encode() + b"abcde")
        async with asyncio.timeout(60):
            assert b"200 OK" in await reader.read()
        writer.close()
        await http.close()
    (line,) = lines.getvalue()[before:].splitlines()
    assert "malformed HTTP request: 'Can not decode content-encoding: gzip'" in line
    assert '"level": "warning"' in line


class _Column:
    def __init__(self, name: str, steps: list[int], values: list[float]) -> None:
        self.name, self.steps, self.values = name, steps, values
