"""What the RPCs answer to input that is wrong: a canonical code, every violation, a sentence."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lab_core.errors import Violation
from lab_rpc.v1 import config_pb2, run_pb2, training_service_pb2
from lab_server.errors import StoreError
from lab_server.model.run import RunRequest, RunState
from tests.server import raw_http2
from tests.server.conftest import Surface

pb = training_service_pb2
Value = config_pb2.Value
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """Return the error of a call, of a stream as well, that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (_drained(call) if hasattr(call, "__aiter__") else call)
    return caught.value


async def _drained(call: Any) -> None:
    async for _ in call:
        pass


def details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    """Return the one detail of a kind that a status carries."""
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    (found,) = (d for d in status.details if d.Is(kind.DESCRIPTOR))
    message = kind()
    found.Unpack(message)
    return message


def config(**overrides: Any) -> config_pb2.ConfigMessage:
    return config_pb2.ConfigMessage(overrides=overrides)


async def test_every_violation_of_a_config_comes_at_once(surface: Surface) -> None:
    wrong = config(
        learning_rat=Value(double_value=0.1),
        epochs=Value(int_value=-3),
        optimizer=Value(string_value="adam_optimiser"),
        label=Value(int_value=3),
    )
    for call in (
        surface.stub.PlanRun(pb.PlanRunRequest(experiment="mnist", config=wrong)),
        surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist", config=wrong)),
    ):
        error = await refused(call)
        assert error.code() is INVALID
        found = {
            v.field: v.description
            for v in details(error, error_details_pb2.BadRequest).field_violations
        }
        assert set(found) == {"learning_rat", "epochs", "optimizer", "label"}
        assert "did you mean 'learning_rate'" in found["learning_rat"]
        assert "at least 1" in found["epochs"]
        assert "adam_optimizer" in found["optimizer"]
        assert details(error, error_details_pb2.ErrorInfo).reason == "INVALID_CONFIG"


async def test_the_experiments_own_checks_refuse_too(surface: Surface) -> None:
    surface.executor.violations = (Violation("epochs", "kernels leave nothing of the image"),)
    error = await refused(surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist")))
    assert error.code() is INVALID
    assert error.details() == "kernels leave nothing of the image"
    assert not (await surface.stub.ListRuns(pb.ListRunsRequest())).runs


async def test_an_unknown_experiment_is_not_found_with_a_suggestion(surface: Surface) -> None:
    error = await refused(surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnis")))
    assert error.code() is NOT_FOUND
    assert error.details() == "there is no experiment 'mnis'; did you mean 'mnist'?"
    info = details(error, error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("experiment", "mnis")


async def test_an_experiment_that_cannot_be_imported_says_why(surface: Surface) -> None:
    error = await refused(surface.stub.PlanRun(pb.PlanRunRequest(experiment="broken")))
    assert error.code() is INVALID
    # as it is, with its traceback and nothing around it
    assert str(error.details()) == "No module named 'nothing'\nin line 1"
    shown = await surface.stub.GetExperiment(pb.GetExperimentRequest(name="broken"))
    assert (shown.experiment.error, shown.experiment.traceback) == (
        "No module named 'nothing'",
        "in line 1\n",
    )


@pytest.mark.parametrize(
    "run_id", ["no-such-run", "../../etc/passwd", "a\0b", "x" * 100_000, "ünïcode", "A", " "]
)
async def test_an_unknown_run_is_not_found_whatever_it_is_called(
    surface: Surface, run_id: str
) -> None:
    for call in (
        surface.stub.GetRun(pb.GetRunRequest(run_id=run_id)),
        surface.stub.StartRun(pb.StartRunRequest(run_id=run_id)),
        surface.stub.StopRun(pb.StopRunRequest(run_id=run_id)),
        surface.stub.DeleteRun(pb.DeleteRunRequest(run_id=run_id)),
        surface.stub.QueryMetrics(pb.QueryMetricsRequest(run_id=run_id)),
        surface.stub.ListArtifacts(pb.ListArtifactsRequest(run_id=run_id)),
        surface.stub.WatchRun(pb.WatchRunRequest(run_id=run_id)),
        surface.stub.WatchMetrics(pb.WatchMetricsRequest(run_ids=[run_id])),
        surface.stub.DownloadArtifact(pb.DownloadArtifactRequest(run_id=run_id)),
    ):
        error = await refused(call)
        assert error.code() is NOT_FOUND
        assert len(str(error.details())) < 1200


async def test_an_empty_run_id_is_invalid(surface: Surface) -> None:
    error = await refused(surface.stub.GetRun(pb.GetRunRequest()))
    assert error.code() is INVALID
    violations = details(error, error_details_pb2.BadRequest).field_violations
    assert [v.field for v in violations] == ["run_id"]


async def test_a_run_starts_once_and_stops_once(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    assert (
        await refused(surface.stub.StartRun(pb.StartRunRequest(run_id=run.id)))
    ).code() is PRECONDITION
    await surface.stub.StopRun(pb.StopRunRequest(run_id=run.id))
    assert (
        await refused(surface.stub.StopRun(pb.StopRunRequest(run_id=run.id)))
    ).code() is PRECONDITION


@pytest.mark.parametrize(
    ("field", "request_fields"),
    [
        ("name", {"name": "x" * 201}),
        ("name", {"name": "a\nb"}),
        ("name", {"name": "a\0b"}),
        ("name", {"name": "a\u2028b"}),
        ("tags[1]", {"tags": ["good", ""]}),
        ("tags[0]", {"tags": ["x" * 101]}),
        ("tags", {"tags": [str(i) for i in range(51)]}),
        ("notes", {"notes": "x" * 20_001}),
        ("notes", {"notes": "\x1b[31m"}),
        ("idempotency_key", {"idempotency_key": "x" * 201}),
        ("options.priority", {"options": run_pb2.RunOptions(priority=2**31 - 1)}),
        ("options.device", {"options": run_pb2.RunOptions(device="tpu:0")}),
        ("options.writers", {"options": run_pb2.RunOptions(writers=["wandb"])}),
        ("options.max_runtime_s", {"options": run_pb2.RunOptions(max_runtime_s=math.nan)}),
        ("options.max_runtime_s", {"options": run_pb2.RunOptions(max_runtime_s=-1.0)}),
        ("options.max_runtime_s", {"options": run_pb2.RunOptions(max_runtime_s=math.inf)}),
        ("options.max_retries", {"options": run_pb2.RunOptions(max_retries=2**32 - 1)}),
        ("config", {"config": config(**{str(i): Value() for i in range(2001)})}),
        ("models", {"config": config_pb2.ConfigMessage(models=["no_such_item"])}),
    ],
)
async def test_a_field_out_of_its_bounds_is_named(
    surface: Surface, field: str, request_fields: dict[str, Any]
) -> None:
    request = pb.CreateRunRequest(experiment="mnist", **request_fields)
    error = await refused(surface.stub.CreateRun(request))
    assert error.code() is INVALID
    bad = details(error, error_details_pb2.BadRequest)
    assert field in {violation.field for violation in bad.field_violations}


async def test_what_a_run_can_have_nowhere_is_refused_in_its_plan_as_when_it_is_created(
    surface: Surface,
) -> None:
    for options in (run_pb2.RunOptions(pool="gpus"), run_pb2.RunOptions(device="cuda:9")):
        plan = surface.stub.PlanRun(pb.PlanRunRequest(experiment="mnist", options=options))
        planned = details(await refused(plan), error_details_pb2.BadRequest)
        create = surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist", options=options))
        assert planned == details(await refused(create), error_details_pb2.BadRequest)
        ((field, _),) = options.ListFields()
        assert [v.field for v in planned.field_violations] == [f"options.{field.name}"]
    await surface.stub.PlanRun(pb.PlanRunRequest(experiment="mnist", options=run_pb2.RunOptions()))


async def test_thousands_of_violations_fit_into_a_status(surface: Surface) -> None:
    wrong = config(**{f"nöpe{i}" * 20: Value(string_value="x" * 50) for i in range(1000)})
    error = await refused(surface.stub.PlanRun(pb.PlanRunRequest(experiment="mnist", config=wrong)))
    assert error.code() is INVALID
    violations = details(error, error_details_pb2.BadRequest).field_violations
    assert "more violations" in violations[-1].description


async def test_deeply_nested_lists_are_refused(surface: Surface) -> None:
    value = Value(int_value=1)
    for _ in range(20):
        value = Value(list_value=config_pb2.ListValue(values=[value]))
    request = pb.PlanRunRequest(experiment="mnist", config=config(epochs=value))
    assert (await refused(surface.stub.PlanRun(request))).code() is INVALID


@pytest.mark.parametrize(
    "request_fields",
    [
        {"page_token": "x"},
        {"page_token": "é"},
        {"page_token": "AAAAAAAAAAAAAAAAAAAAAAAA"},
        {"order_by": "max(state)"},
        {"order_by": "tags"},
        {"where": "state = complted"},
        {"where": "state ="},
        {"where": "name = 'a\0b'"},
        {"where": "a = " + "1" * 2000},
        {"where": "__import__('os').system('true')"},
        {"order_by": "name; drop table runs"},
        {"order_by": "metrics."},
        {"order_by": "name sideways"},
        {"states": [99]},
        {"states": [0]},
        {"tags": ["x" * 200]},
        {"name_contains": "a\0b"},
    ],
)
async def test_a_list_with_a_wrong_field_is_invalid(
    surface: Surface, request_fields: dict[str, Any]
) -> None:
    error = await refused(surface.stub.ListRuns(pb.ListRunsRequest(**request_fields)))
    assert error.code() is INVALID


async def test_a_page_token_belongs_to_its_request(surface: Surface) -> None:
    for _ in range(3):
        await surface.run()
    page = await surface.stub.ListRuns(pb.ListRunsRequest(page_size=1))
    other = pb.ListRunsRequest(page_size=1, page_token=page.next_page_token, order_by="name")
    assert (await refused(surface.stub.ListRuns(other))).code() is INVALID


@pytest.mark.parametrize(
    "fields",
    [
        {"add_tags": [""]},
        {"add_tags": ["a"], "remove_tags": ["a"]},
        {"add_tags": ["x" * 101]},
        {"add_tags": [f"t{index}" for index in range(50)]},
        {"tags": ["a"], "add_tags": ["b"], "update_mask": {"paths": ["tags"]}},
    ],
)
async def test_tags_that_cannot_be_added_are_refused(
    surface: Surface, fields: dict[str, Any]
) -> None:
    run = await surface.run(tags=["kept"])
    error = await refused(surface.stub.UpdateRun(pb.UpdateRunRequest(run_id=run.id, **fields)))
    assert error.code() is INVALID
    assert (await surface.supervisor.get(run.id)).request.tags == ("kept",)


async def test_tags_are_added_and_removed_one_by_one(surface: Surface) -> None:
    run = await surface.run(tags=["a", "b"])
    request = pb.UpdateRunRequest(run_id=run.id, add_tags=["c", "a"], remove_tags=["b", "none"])
    answer = await surface.stub.UpdateRun(request)
    assert list(answer.run.tags) == ["a", "c"]


@pytest.mark.parametrize("paths", [[], ["state"], ["name", "folder"]])
async def test_an_update_of_something_else_is_invalid(surface: Surface, paths: list[str]) -> None:
    run = await surface.run()
    request = pb.UpdateRunRequest(run_id=run.id, name="x")
    request.update_mask.paths.extend(paths)
    assert (await refused(surface.stub.UpdateRun(request))).code() is INVALID


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 30, "²", "1.5"])
async def test_a_cursor_that_no_answer_had_is_invalid(surface: Surface, cursor: str) -> None:
    call = surface.stub.WatchMetrics(pb.WatchMetricsRequest(cursor=cursor))
    assert (await refused(call)).code() is INVALID


async def test_watching_behind_the_end_of_an_ended_run_is_invalid(surface: Surface) -> None:
    run = await surface.run(RunState.COMPLETED)
    call = surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id, after_seq=2**64 - 1))
    assert (await refused(call)).code() is INVALID


async def test_watching_a_live_run_from_behind_all_that_a_log_can_hold_waits(
    surface: Surface,
) -> None:
    run = await surface.run(RunState.RUNNING)
    for after_seq in (2**63 - 1, 2**63, 2**64 - 1):
        call = surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id, after_seq=after_seq))
        assert list((await call.read()).events) == []
        call.cancel()


@pytest.mark.parametrize("path", ["", "../secret", "/etc/passwd", "a\0b", "x" * 10_000])
async def test_a_path_that_was_not_listed_is_not_found(surface: Surface, path: str) -> None:
    run = await surface.run()
    call = surface.stub.DownloadArtifact(pb.DownloadArtifactRequest(run_id=run.id, path=path))
    assert (await refused(call)).code() is NOT_FOUND


async def test_a_grace_that_is_no_time_is_invalid(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    for grace_s in (math.nan, -1.0, math.inf, 1e300):
        request = pb.StopRunRequest(run_id=run.id, grace_s=grace_s)
        assert (await refused(surface.stub.StopRun(request))).code() is INVALID


async def test_a_fork_must_be_of_an_existing_run_of_the_same_experiment(surface: Surface) -> None:
    request = pb.CreateRunRequest(experiment="mnist")
    request.parent.run_id = "no-such-run"
    assert (await refused(surface.stub.CreateRun(request))).code() is NOT_FOUND
    request.parent.run_id = (await surface.run()).id
    request.parent.step = -1
    assert (await refused(surface.stub.CreateRun(request))).code() is INVALID
    other = await surface.supervisor.create(
        RunRequest("other"), owner="", config_hash="", key=None, fingerprint=""
    )
    request.parent.run_id, request.parent.step = other.id, 0
    error = await refused(surface.stub.CreateRun(request))
    assert [v.field for v in details(error, error_details_pb2.BadRequest).field_violations] == [
        "parent.run_id"
    ]


async def test_one_may_have_so_many_streams_and_runs(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    calls = [surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id)) for _ in range(3)]
    for call in calls:
        await call.read()
    error = await refused(surface.stub.WatchRun(pb.WatchRunRequest(run_id=run.id)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()
    await surface.run(RunState.QUEUED)
    third = await surface.run()
    error = await refused(surface.stub.StartRun(pb.StartRunRequest(run_id=third.id)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error, error_details_pb2.ErrorInfo).reason == "LIMIT_REACHED"


async def test_garbage_is_invalid_for_every_rpc(surface: Surface) -> None:
    service = pb.DESCRIPTOR.services_by_name["TrainingService"]
    for method in service.methods:
        path = f"/{service.full_name}/{method.name}"
        make: Any = (
            surface.channel.unary_stream if method.server_streaming else surface.channel.unary_unary
        )
        error = await refused(make(path)(b"\xff\xff garbage"))
        assert error.code() is INVALID, method.name


async def test_garbage_is_invalid_for_health_and_reflection_too(surface: Surface) -> None:
    garbage = b"\xff\xff garbage"
    channel: Any = surface.channel
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    for call in (
        channel.unary_unary("/grpc.health.v1.Health/Check")(garbage),
        channel.unary_stream("/grpc.health.v1.Health/Watch")(garbage),
        channel.stream_stream(reflection)(iter([garbage])),
    ):
        assert (await refused(call)).code() is INVALID


async def test_a_store_that_cannot_write_is_unavailable(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_args: object, **_kwargs: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(surface.supervisor, "create", full)
    error = await refused(surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist")))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the disk is full")


async def test_a_bug_is_internal_and_tells_the_caller_nothing(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(*_args: object, **_kwargs: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(surface.supervisor, "create", bug)
    error = await refused(surface.stub.CreateRun(pb.CreateRunRequest(experiment="mnist")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    assert "internal error in request " in str(error.details())


@pytest.mark.parametrize(
    "method",
    [
        "lab_rpc.v1.TrainingService/GetServerInfo",
        "lab_rpc.v1.TrainingService/StartRun",
        "lab_rpc.v1.TrainingService/WatchRun",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
    ],
)
async def test_a_call_that_ends_without_a_message_is_answered(
    surface: Surface, method: str
) -> None:
    async with asyncio.timeout(20):
        assert await raw_http2.call(surface.address, f"/{method}", message=None) == "answered"
        service, _, name = method.rpartition("/")
        labels = f'grpc_code="INVALID_ARGUMENT",grpc_method="{name}",grpc_service="{service}"'
        line = f"grpc_server_handled_total{{{labels}}} 1.0"
        # counted after the answer is sent
        while line not in (await surface.exporter.scrape())[0].decode():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize("rpc", ["PlanRun", "CreateRun"])
async def test_models_must_name_models(surface: Surface, rpc: str) -> None:
    def request(**config: Any) -> Any:
        message = config_pb2.ConfigMessage(**config)
        return getattr(pb, f"{rpc}Request")(experiment="mnist", config=message)

    call = getattr(surface.stub, rpc)
    overrides = {"epochs": Value(int_value=-1)}
    error = await refused(call(request(models=["optimizr", "epochs"], overrides=overrides)))
    assert error.code() is INVALID
    violations = details(error, error_details_pb2.BadRequest).field_violations
    assert [(v.field, v.description) for v in violations[1:]] == [
        ("models", "'optimizr' is not an item of the experiment; did you mean 'optimizer'?"),
        ("models", "'epochs' is not a model but int"),
    ]
    assert violations[0].field == "epochs"
    assert await call(request(models=["optimizer"]))


async def test_a_step_before_the_first_is_no_step_to_train_up_to(surface: Surface) -> None:
    run = await surface.run()
    request = pb.StartRunRequest(run_id=run.id, until_step=-1)
    error = await refused(surface.stub.StartRun(request))
    assert error.code() is INVALID
    assert details(error, error_details_pb2.BadRequest).field_violations[0].field == "until_step"
    assert (await surface.supervisor.get(run.id)).state is RunState.CREATED
