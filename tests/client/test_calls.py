"""Every call of the service, by both clients, against the twin."""

from __future__ import annotations

import http.server
import math
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from lab_client import RunOptions, RunState, errors
from lab_client.aio.client import AsyncClient
from lab_client.aio.run import AsyncRun
from lab_client.protocol import operations, search_operations
from lab_client.sync.client import Client
from lab_client.sync.run import Run
from lab_rpc.v1 import event_pb2, training_service_pb2
from tests.client.conftest import MakeClient
from tests.client.twin import Twin


def test_every_rpc_has_a_method_on_both_clients(client: Any, twin: Twin, tmp_path: Any) -> None:
    info = client.server_info()
    assert (info.version, info.slots[0].name, info.role) == ("0.1.0", "cpu:0", "admin")
    assert [item.name for item in client.experiments()] == ["mnist"]
    mnist = client.experiment("mnist")
    assert mnist.schema["epochs"].default == 10
    assert mnist.schema["dataset"].options == ("mnist_5k", "mnist")
    assert mnist.plan({"epochs": 2}).values == {"epochs": 2, "dataset": "mnist_5k"}
    (tmp_path / "sine.py").write_text("")
    assert client.plan(tmp_path / "sine.py").experiment == "mnist"
    run = mnist.create({"epochs": 1}, tags=["a"])
    twin.runs[run.id].files["log.txt"] = b"hello"
    assert run.start().info.state is RunState.QUEUED
    assert client.get(run.id).tags == ("a",)
    assert [item.id for item in client.runs()] == [run.id]
    assert run.update(notes="better").info.notes == "better"
    twin.runs[run.id].train()
    assert len(list(client.watch(run.id))) == 9
    update = next(client.watch_metrics(from_start=True))
    assert (update.run_id, update.experiment) == (run.id, "mnist")
    assert run.history()["loss"].values[0] == 1.0
    assert client.download(run.id, run.artifacts()[0].path, tmp_path).read_bytes() == b"hello"
    with pytest.raises(errors.InvalidState):
        run.stop()
    with pytest.raises(errors.InvalidState):
        run.save_checkpoint()
    assert not list(run.texts())
    assert client.dashboard().url == "http://127.0.0.1:8080"
    run.delete()

    service = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"]
    assert set(twin.calls) == {method.name for method in service.methods}


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Run, AsyncRun)])
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert surface(one) == surface(other)


def test_values_keep_their_types_on_the_way(client: Any, twin: Twin) -> None:
    sent = {"epochs": 1, "learning_rate": 1.0, "seed": None, "betas": [0.9, 1], "dataset": "mnist"}
    run = client.create("mnist", {**sent, "conv1_kernal": True})
    assert run.info.overrides == {**sent, "conv1_kernal": True}
    assert type(run.info.overrides["epochs"]) is int
    assert type(run.info.overrides["learning_rate"]) is float
    assert run.info.overrides["conv1_kernal"] is True


def test_run_options_arrive(client: Any) -> None:
    options = RunOptions(priority=3, device="cpu", max_retries=0, writers=("sqlite",))
    assert client.create("mnist", options=options).info.options == options
    assert client.create("mnist").info.options == RunOptions()


def test_all_that_is_wrong_with_a_config_arrives_at_once(client: Any) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        client.create("mnist", {"epoch": 1, "epochs": -1})
    assert [item.key for item in caught.value.violations] == ["epoch", "epochs"]
    assert "unknown config 'epoch'" in str(caught.value)


@pytest.mark.parametrize("value", [object(), 2**70, {"a": 1}, b"bytes", [1, {2}]])
def test_a_value_that_cannot_travel_is_a_config_error(client: Any, value: Any) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        client.plan("mnist", {"epochs": value})
    assert caught.value.violations[0].key == "epochs"


def test_what_is_not_there_is_a_typed_error_with_its_name(client: Any, twin: Twin) -> None:
    with pytest.raises(errors.RunNotFound) as caught:
        client.run("nope")
    assert caught.value.name == "nope"
    with pytest.raises(errors.RunNotFound):
        list(client.watch("nope"))
    with pytest.raises(errors.ExperimentNotFound):
        client.experiment("nope")
    run = twin.add_run()
    with pytest.raises(errors.ArtifactNotFound):
        client.download(run.message.id, "nope.txt")
    with pytest.raises(errors.CheckpointNotFound):
        client.fork(run.message.id)


def test_a_run_is_started_and_resumed_up_to_a_step(client: Any, twin: Twin) -> None:
    run = client.create("mnist").start(until_step=7)
    assert run.info.until_step == 7
    twin.runs[run.id].state(event_pb2.RUN_STATE_STOPPED)
    assert run.resume(until_step=9).info.until_step == 9
    twin.runs[run.id].state(event_pb2.RUN_STATE_STOPPED)
    assert client.start(run.id, resume=True).until_step == 0
    other = client.create("mnist")
    with pytest.raises(errors.InvalidRequest, match="until_step must be at least 1, got 0"):
        other.start(until_step=0)
    assert client.get(other.id).state is RunState.CREATED


def test_a_run_started_twice_is_an_invalid_state(client: Any) -> None:
    run = client.create("mnist").start()
    with pytest.raises(errors.InvalidState, match="started before"):
        run.start()


def test_a_full_queue_says_so(client: Any, twin: Twin) -> None:
    twin.queue_limit = 0
    with pytest.raises(errors.QueueFull, match="full"):
        client.create("mnist").start()


def test_a_wrong_page_token_is_an_invalid_request_and_no_config_error(client: Any) -> None:
    with pytest.raises(errors.ConfigError):
        list(client.runs(states=["SLEEPING"]))
    with pytest.raises(errors.InvalidRequest):
        client.update("x")


def test_runs_come_page_by_page_up_to_the_limit(client: Any, twin: Twin) -> None:
    for index in range(8):
        twin.add_run(name=f"run {index}", tags=["even" if index % 2 == 0 else "odd"])
    assert [run.name for run in client.runs()] == [f"run {i}" for i in range(7, -1, -1)]
    assert len(list(client.runs(limit=5))) == 5
    assert list(client.runs(limit=0)) == []
    assert len(list(client.runs(tags="even"))) == 4
    assert len(list(client.runs(states="created", name_contains="run 1"))) == 1


def test_a_lost_answer_never_creates_or_starts_a_run_twice(client: Any, twin: Twin) -> None:
    twin.lost_answers.update({"CreateRun": 2, "StartRun": 1})
    run = client.create("mnist").start()
    assert list(twin.runs) == [run.id]
    assert twin.calls["CreateRun"] == 3
    states = [event.state.state for event in twin.runs[run.id].log]
    assert states == [event_pb2.RUN_STATE_CREATED, event_pb2.RUN_STATE_QUEUED]


def test_the_same_key_with_another_request_is_refused(client: Any) -> None:
    first = client.create("mnist", {"epochs": 1}, idempotency_key="k")
    assert client.create("mnist", {"epochs": 1}, idempotency_key="k").id == first.id
    with pytest.raises(errors.AlreadyExists):
        client.create("mnist", {"epochs": 2}, idempotency_key="k")


def test_a_delete_is_not_sent_twice(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    twin.lost_answers["DeleteRun"] = 1
    with pytest.raises(errors.Unavailable):
        client.delete(run.message.id)
    assert twin.calls["DeleteRun"] == 1


def test_what_is_safe_is_sent_again_until_somebody_answers(client: Any, twin: Twin) -> None:
    twin.failures["ListExperiments"] = deque([grpc.StatusCode.UNAVAILABLE] * 3)
    assert len(client.experiments()) == 1
    assert twin.calls["ListExperiments"] == 4


def test_what_the_server_refuses_is_not_sent_again(client: Any, twin: Twin) -> None:
    for code, kind in [
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.INTERNAL, errors.ServerError),
        (grpc.StatusCode.UNKNOWN, errors.ServerError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.IncompatibleServer),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
    ]:
        twin.calls.clear()
        twin.failures["GetRun"] = deque([code])
        with pytest.raises(kind):
            client.get("x")
        assert twin.calls["GetRun"] == 1


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        ("QUEUE_FULL", "the queue is full (4)", errors.QueueFull),
        ("LIMIT_REACHED", "you may have 100 streams open", errors.LimitReached),
        ("", "Received message larger than max (9 vs. 4)", errors.MessageTooLarge),
        ("SOMETHING_NEW", "larger than max", errors.ResourceExhausted),
        ("", "a proxy's limit", errors.ResourceExhausted),
    ],
)
def test_each_limit_has_an_error_of_its_own(
    client: Any, twin: Twin, reason: str, message: str, kind: type[Exception]
) -> None:
    details = (error_details_pb2.ErrorInfo(reason=reason),) if reason else ()
    twin.refusals["GetRun"] = (code_pb2.RESOURCE_EXHAUSTED, message, *details)
    with pytest.raises(errors.ResourceExhausted, match=message[:20].replace("(", "\\(")) as caught:
        client.get("x")
    assert type(caught.value) is kind


def test_what_grpc_finds_too_large_says_so(client: Any) -> None:
    with pytest.raises(errors.MessageTooLarge, match="larger than max"):
        client.create("mnist", notes="x" * 5_000_000)  # gRPC's own limit is 4 MiB


def test_a_token_is_sent_and_a_missing_one_is_told(make_client: MakeClient, twin: Twin) -> None:
    twin.token = "secret"
    with pytest.raises(errors.Unauthenticated, match="LAB_TOKEN"):
        make_client().server_info()
    client = make_client(token="secret")
    assert client.server_info().principal == "me"
    assert "secret" not in repr(client)


def test_a_server_of_another_major_version_is_told_apart(
    make_client: MakeClient, twin: Twin
) -> None:
    twin.version = "7.0.0"
    with pytest.raises(errors.IncompatibleServer, match=r"version 7\.0\.0"):
        make_client().experiments()
    twin.version = "0.9.3"
    assert make_client().experiments()


def test_no_server_is_unavailable_with_what_to_do(make_client: MakeClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        client = make_client(address, retry_timeout_s=0.2)
        with pytest.raises(errors.Unavailable, match="lab-server serve"):
            client.experiments()


def test_a_server_that_says_nothing_exceeds_the_deadline(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = make_client(f"127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises((errors.DeadlineExceeded, errors.Unavailable)):
            client.experiments()


def test_a_client_may_wait_without_end(make_client: MakeClient, twin: Twin) -> None:
    run = twin.add_run()
    run.train(num_events=3)
    client = make_client(timeout_s=math.inf, retry_timeout_s=math.inf, idle_timeout_s=math.inf)
    assert client.wait_ready(math.inf).version == "0.1.0"
    assert len(list(client.run(run.message.id).events())) == run.message.last_seq


def test_numbers_and_texts_that_cannot_be_sent_are_told(client: Any, twin: Twin) -> None:
    run = client.run(twin.add_run().message.id)
    for call in (
        lambda: run.history(max_points=-1),
        lambda: run.start(until_step=10**20),
        lambda: run.plan_fork(step=10**20),
        lambda: list(run.images(min_step=10**20)),
        lambda: list(run.events(after_seq=-1, follow=False)),
        lambda: list(client.watch(run.id, after_seq=10**20)),
        lambda: client.create("mnist", name="\ud800"),
        lambda: client.experiment("\ud800"),
        lambda: client.get("\ud800"),
    ):
        with pytest.raises(errors.InvalidRequest):
            call()


@pytest.mark.parametrize(
    "make",
    [
        operations.get,
        operations.delete,
        operations.save_checkpoint,
        operations.query_metrics,
        operations.artifacts,
        operations.experiment,
        partial(operations.update, notes=""),
        partial(operations.queue, resume=False),
        partial(operations.stop, checkpoint=False, grace_s=None),
        search_operations.get_search,
        search_operations.importances,
        search_operations.delete_search,
        partial(search_operations.set_paused, is_paused=True),
        partial(search_operations.extend, max_trials=1),
        partial(search_operations.stop_search, with_trials=True),
        partial(search_operations.enqueue, points=()),
        lambda text: search_operations.list_trials(text).next_call(),
        lambda text: search_operations.list_searches(experiment=text).next_call(),
        lambda text: operations.list_runs(where=text).next_call(),
        lambda text: operations.count_runs(tags=text),
        lambda text: next(operations.plan(text)),
        lambda text: next(operations.create("mnist", models=[text])),
    ],
)
def test_no_call_sends_a_text_that_is_no_utf_8(make: Callable[[str], Any]) -> None:
    make("mnist")
    with pytest.raises(errors.InvalidRequest, match="this cannot be sent: "):
        make("\ud800")


def test_no_stream_asks_for_a_text_that_is_no_utf_8(client: Any, tmp_path: Path) -> None:
    for call in (
        lambda: list(client.watch("\ud800")),
        lambda: next(client.watch_metrics(run_ids="\ud800")),
        lambda: client.download("\ud800", "log.txt", tmp_path),
        lambda: client.download("r1", "\ud800", tmp_path / "log.txt"),
    ):
        with pytest.raises(errors.InvalidRequest, match="this cannot be sent: "):
            call()
    assert list(tmp_path.iterdir()) == []


def test_orders_models_and_lists_that_are_none_are_told(client: Any) -> None:
    deep: Any = []
    for _ in range(90):
        deep = [deep]
    endless: Any = []
    endless.append(endless)
    wrong: tuple[dict[str, Any], ...] = (
        {"models": [1]},
        {"run_order": 5},
        {"run_order": [5]},
        {"overrides": {"widths": deep}},
        {"overrides": {"widths": endless}},
    )
    for arguments in wrong:
        with pytest.raises(errors.InvalidRequest, match=r"are texts|is a list|too deep"):
            client.plan("mnist", **arguments)


@pytest.mark.slow
def test_wait_ready_waits_for_a_server_that_is_starting(
    make_client: MakeClient, twin: Twin
) -> None:
    twin.failures["GetServerInfo"] = deque([grpc.StatusCode.UNAVAILABLE] * 4)
    client = make_client(retry_timeout_s=0)
    assert client.wait_ready(20).version == "0.1.0"
    assert client.experiments()
    twin.version = "7.0.0"
    with pytest.raises(errors.IncompatibleServer):
        client.wait_ready(20)


def test_an_http_server_is_told_apart(make_client: MakeClient) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(errors.IncompatibleServer, match="metrics port"):
            make_client(f"127.0.0.1:{web.server_port}").server_info()
        web.shutdown()


def test_a_closed_client_says_that_it_is_closed(make_client: MakeClient) -> None:
    client = make_client()
    client.server_info()
    client.close()
    with pytest.raises(errors.InvalidState, match="closed"):
        client.server_info()


def test_a_fork_starts_from_the_newest_checkpoint_with_changed_configs(
    client: Any, twin: Twin
) -> None:
    parent = client.create("mnist", {"epochs": 3, "seed": 1}, tags=["a"], name="first").start()
    twin.runs[parent.id].message.step = 40
    parent.stop(checkpoint=True)
    child = parent.fork(overrides={"seed": 2})
    assert child.info.overrides == {"epochs": 3, "seed": 2}
    assert (child.info.parent.run_id, child.info.parent.step) == (parent.id, 40)
    assert (child.info.name, child.info.tags) == ("first", ("a",))
    assert child.info.state is RunState.QUEUED
    assert client.fork(parent.id, 12, start=False).info.parent.step == 12


def test_resume_queues_a_stopped_run_again(client: Any) -> None:
    run = client.create("mnist").start().stop()
    assert run.info.state is RunState.STOPPED
    assert run.resume().info.state is RunState.QUEUED


def test_state_asks_the_server_until_the_run_has_ended(client: Any, twin: Twin) -> None:
    run = client.create("mnist")
    twin.runs[run.id].state(event_pb2.RUN_STATE_RUNNING)
    assert str(run.state) == "RUNNING"
    twin.runs[run.id].state(event_pb2.RUN_STATE_COMPLETED)
    assert str(run.state) == "COMPLETED"
    asked = twin.calls["GetRun"]
    assert str(run.state) == "COMPLETED"
    assert twin.calls["GetRun"] == asked


def test_forking_a_run_without_a_checkpoint_says_how_to_have_one(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.train()
    with pytest.raises(errors.CheckpointNotFound, match=r"unless it is told not to"):
        client.fork(run.message.id)


@pytest.mark.parametrize("configs", [[1], "epochs", 3])
def test_configs_that_are_no_dict_are_a_config_error(client: Any, twin: Twin, configs: Any) -> None:
    run = twin.add_run()
    for call in (client.create, client.plan):
        with pytest.raises(errors.ConfigError, match="configs are a dict"):
            call("mnist", configs)
    with pytest.raises(errors.ConfigError, match="configs are a dict"):
        client.fork(run.message.id, 1, configs)


def test_one_tag_need_not_be_in_a_list_but_is_a_text(client: Any, twin: Twin) -> None:
    assert client.create("mnist", tags="best").info.tags == ("best",)
    for tags in (7, [7], [None]):
        with pytest.raises(errors.InvalidRequest, match="texts"):
            client.create("mnist", tags=tags)
