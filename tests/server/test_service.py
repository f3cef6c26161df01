"""What the RPCs answer to good input."""

from __future__ import annotations

import asyncio
import dataclasses

import grpc
import pytest

from lab_rpc.v1 import config_pb2, event_pb2, provenance_pb2, training_service_pb2
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import RunState
from lab_server.rpc.calls.handlers import TRAINING, handlers
from tests.server.conftest import Surface

pb = training_service_pb2


def test_an_rpc_without_a_handler_is_an_error() -> None:
    with pytest.raises(ValueError, match="unpack"):
        handlers(TRAINING, object())


async def test_server_info_tells_slots_and_queue(surface: Surface) -> None:
    await surface.run(RunState.QUEUED)
    run = await surface.run(RunState.RUNNING)
    info = await surface.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert [(s.name, s.run_id) for s in info.slots] == [("cpu:0", run.id), ("cuda:0", "")]
    assert (info.queue_length, info.queue_limit) == (1, 3)
    assert (info.principal, info.role) == ("", "admin")


async def test_experiments_are_listed_with_what_is_wrong_with_them(surface: Surface) -> None:
    listed = await surface.stub.ListExperiments(pb.ListExperimentsRequest())
    assert [(e.name, e.summary, e.error) for e in listed.experiments] == [
        ("broken", "", "No module named 'nothing'"),
        ("mnist", "A small network.", ""),
    ]


async def test_a_schema_tells_types_defaults_options_and_docs(surface: Surface) -> None:
    answer = await surface.stub.GetExperiment(pb.GetExperimentRequest(name="mnist"))
    items = {item.key: item for item in answer.schema.items}
    epochs = items["epochs"]
    assert (epochs.type, epochs.default_value.int_value, epochs.doc) == (
        "int",
        10,
        "passes over the data",
    )
    assert [(c.rule, c.operand.int_value) for c in epochs.constraints] == [("ge", 1)]
    assert list(items["optimizer"].options) == ["sgd_optimizer", "adam_optimizer"]
    assert items["learning_rate"].is_hyperparam
    assert [list(group.names) for group in answer.schema.default_run_order] == [["run"]]


async def test_a_plan_tells_values_and_origins_and_keeps_types(surface: Surface) -> None:
    config = config_pb2.ConfigMessage(
        overrides={"learning_rate": config_pb2.Value(double_value=1.0)}
    )
    answer = await surface.stub.PlanRun(pb.PlanRunRequest(experiment="mnist", config=config))
    items = {item.key: item for item in answer.plan.items}
    assert items["learning_rate"].value.WhichOneof("kind") == "double_value"
    assert items["learning_rate"].origin == config_pb2.VALUE_ORIGIN_OVERRIDE
    assert items["epochs"].origin == config_pb2.VALUE_ORIGIN_DEFAULT
    assert items["optimizer"].option == "sgd_optimizer"
    created = await surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist", config=config))
    assert created.run.config_hash == answer.plan.hash != ""


async def test_a_run_goes_from_created_to_queued_to_stopped(surface: Surface) -> None:
    created = await surface.stub.CreateRun(
        pb.CreateRunRequest(experiment="mnist", tags=["a", "b", "a"], notes="why\nnot")
    )
    assert created.run.state == event_pb2.RUN_STATE_CREATED
    assert (created.run.name, list(created.run.tags)) == ("mnist", ["a", "b"])
    started = await surface.stub.StartRun(pb.StartRunRequest(run_id=created.run.id))
    assert started.run.state == event_pb2.RUN_STATE_QUEUED
    assert started.run.queue_position == 1
    stopped = await surface.stub.StopRun(pb.StopRunRequest(run_id=created.run.id))
    assert stopped.run.state == event_pb2.RUN_STATE_STOPPED


async def test_a_key_gives_the_same_run_again(surface: Surface) -> None:
    request = pb.CreateRunRequest(experiment="mnist", idempotency_key="k")
    first = await surface.stub.CreateRun(request)
    second = await surface.stub.CreateRun(request)
    assert first.run.id == second.run.id
    request.notes = "another"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await surface.stub.CreateRun(request)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_run_is_found_by_a_prefix(surface: Surface) -> None:
    run = await surface.run()
    found = await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id[:-1]))
    assert found.run.id == run.id


async def test_update_changes_what_the_mask_names_alone(surface: Surface) -> None:
    run = await surface.run(name="old", notes="old")
    request = pb.UpdateRunRequest(run_id=run.id, name="new", notes="ignored")
    request.update_mask.paths.append("name")
    updated = await surface.stub.UpdateRun(request)
    assert (updated.run.name, updated.run.notes) == ("new", "old")


async def test_delete_needs_the_whole_id(surface: Surface) -> None:
    run = await surface.run()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await surface.stub.DeleteRun(pb.DeleteRunRequest(run_id=run.id[:-1]))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await surface.stub.DeleteRun(pb.DeleteRunRequest(run_id=run.id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_gets_every_event_once_and_the_stream_ends_with_the_run(
    surface: Surface,
) -> None:
    run = await surface.run(RunState.RUNNING)
    call = surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
    seqs = []
    async for response in call:
        seqs += [event.seq for event in response.events]
        if seqs == [1, 2] and not response.events:
            run = await surface.supervisor.say(run, events.encode_progress(1, 1, 7, 70, 3.5))
            await surface.supervisor.move(run, RunState.COMPLETED)
    assert seqs == [1, 2, 3, 4]


async def test_a_watcher_resumes_after_the_last_seen_event(surface: Surface) -> None:
    run = await surface.run(RunState.COMPLETED)
    call = surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id, after_seq=1))
    assert [event.seq async for response in call for event in response.events] == [2]


async def test_metrics_across_runs_are_filtered_and_resumed_by_cursor(surface: Surface) -> None:
    wanted = await surface.run(RunState.RUNNING, tags=["x"])
    other = await surface.run(RunState.RUNNING)
    for run in (wanted, other):
        await surface.supervisor.say(run, *_metrics({"loss": 0.5, "accuracy": 0.9}, step=1))
    request = pb.WatchMetricsRequest(tags=["x"], names=["lo*"], from_start=True)
    async for response in surface.stub.WatchMetrics(request):
        batches = [b for b in response.batches if b.event.HasField("metrics")]
        if batches:
            break
    assert [b.run_id for b in batches] == [wanted.id]
    assert [c.name for c in batches[0].event.metrics.columns] == ["loss"]
    run = await surface.supervisor.get(wanted.id)
    await surface.supervisor.say(run, *_metrics({"loss": 0.25}, step=2))
    request.cursor = response.cursor
    async for response in surface.stub.WatchMetrics(request):
        if response.batches:
            break
    assert [list(b.event.metrics.steps) for b in response.batches] == [[2]]


async def test_metrics_of_a_run_that_is_named_by_a_prefix_are_its_own(surface: Surface) -> None:
    wanted = await surface.run(RunState.RUNNING)
    call = surface.stub.WatchMetrics(pb.WatchMetricsRequest(run_ids=[wanted.id[:-1]]))
    await call.read()
    other = await surface.run(RunState.RUNNING)
    for run in (other, wanted):
        await surface.supervisor.say(run, *_metrics({"loss": 0.5}, step=1))
    async with asyncio.timeout(30):
        while not (response := await call.read()).batches:
            pass
    assert [batch.run_id for batch in response.batches] == [wanted.id]


async def test_history_is_queried_by_name_and_step(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    for step in range(10):
        run = await surface.supervisor.say(run, *_metrics({"loss": 1.0 / (step + 1)}, step=step))
    request = pb.QueryMetricsRequest(run_id=run.id, names=["loss"], min_step=3, max_step=8)
    (series,) = (await surface.stub.QueryMetrics(request)).series
    assert list(series.steps) == [3, 4, 5, 6, 7, 8]
    request.max_points = 3
    (series,) = (await surface.stub.QueryMetrics(request)).series
    assert (len(series.steps), series.num_points) == (3, 6)
    said = (series.min_value, series.max_value, series.last_value)
    assert said == (1 / 9, 1 / 4, 1 / 9), "of all points that were asked for"


async def test_a_file_is_downloaded_whole_and_from_an_offset(surface: Surface) -> None:
    run = await surface.run()
    folder = surface.folder_of(run)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_bytes(b"0123456789")
    listed = await surface.stub.ListArtifacts(pb.ListArtifactsRequest(run_id=run.id))
    assert [(a.path, a.size_bytes) for a in listed.artifacts] == [("log.txt", 10)]
    request = pb.DownloadArtifactRequest(run_id=run.id, path="log.txt", offset=4)
    chunks = [chunk async for chunk in surface.stub.DownloadArtifact(request)]
    assert b"".join(chunk.data for chunk in chunks) == b"456789"
    assert chunks[0].size_bytes == 10
    assert len(chunks[-1].sha256) == 64


async def test_runs_are_listed_page_by_page(surface: Surface) -> None:
    ids = [(await surface.run(name=f"n{i}")).id for i in range(5)]
    found: list[str] = []
    request = pb.ListRunsRequest(page_size=2)
    while True:
        page = await surface.stub.ListRuns(request)
        found += [run.id for run in page.runs]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == ids[::-1]


async def test_the_size_of_a_page_may_change_between_pages(surface: Surface) -> None:
    ids = [(await surface.run(name=f"n{i}")).id for i in range(3)]
    first = await surface.stub.ListRuns(pb.ListRunsRequest(page_size=1))
    rest = await surface.stub.ListRuns(
        pb.ListRunsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [run.id for run in (*first.runs, *rest.runs)] == ids[::-1]


async def test_a_start_that_is_tried_again_is_not_refused_at_the_limit(surface: Surface) -> None:
    runs = [await surface.run() for _ in range(3)]
    for run in runs[:2]:  # the limit is two
        await surface.stub.StartRun(pb.StartRunRequest(run_id=run.id))
    codes = {}
    for run in runs[1:]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await surface.stub.StartRun(pb.StartRunRequest(run_id=run.id))
        codes[run.id] = caught.value.code().name
    # its own place does not count; the supervisor answers for what the run is now
    assert list(codes.values()) == ["FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"]


async def test_no_new_runs_while_the_server_drains(surface: Surface) -> None:
    run = await surface.run()
    surface.service.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await surface.stub.StartRun(pb.StartRunRequest(run_id=run.id))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class _Column:
    def __init__(self, name: str, step: int, value: float) -> None:
        self.name, self.steps, self.values = name, [step], [value]


def _metrics(values: dict[str, float], step: int) -> list[EncodedEvent]:
    columns = [_Column(name, step, value) for name, value in values.items()]
    return events.encode_metrics(1, 1, columns)


async def test_a_run_tells_its_code_from_its_log_and_a_list_of_runs_does_not(
    surface: Surface,
) -> None:
    run = await surface.run(RunState.RUNNING)
    sent = provenance_pb2.Provenance(
        module="mnist",
        digest="f" * 64,
        files=[provenance_pb2.SourceFile(path="mnist.py", sha256="e" * 64)],
    )
    before = await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id))
    assert not before.run.HasField("provenance")

    run = dataclasses.replace(run, provenance_seq=run.last_seq + 1)
    await surface.supervisor.say(run, events.encode_provenance(1, 1, sent))

    answer = await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id))
    assert answer.run.provenance == sent
    (listed,) = (await surface.stub.ListRuns(pb.ListRunsRequest())).runs
    assert not listed.HasField("provenance")
    stopped = await surface.stub.StopRun(pb.StopRunRequest(run_id=run.id))
    assert stopped.run.provenance == sent
