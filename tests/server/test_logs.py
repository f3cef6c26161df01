"""The server's log: its forms, what is bound to its lines, what is never in them."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from lab_rpc.v1 import training_service_pb2
from lab_server import logs
from lab_server.executors.catalogue import Catalogue
from lab_server.model.run import RunState
from lab_server.watch.announcing import AnnouncingHub
from tests.server import raw_http2
from tests.server.conftest import Surface
from tests.server.fakes import FakeExecutor

pb = training_service_pb2


def test_lines_of_ours_and_of_libraries_have_one_form(lines: io.StringIO) -> None:
    structlog.get_logger("a").info("one", run="r")
    logging.getLogger("b").warning("two %s", "three")
    first, second = map(json.loads, lines.getvalue().splitlines())
    assert (first["event"], first["run"], first["level"]) == ("one", "r", "info")
    assert (second["event"], second["level"]) == ("two three", "warning")
    assert first["timestamp"].endswith("Z")


def test_an_exception_is_one_line_with_its_traceback(lines: io.StringIO) -> None:
    try:
        int("nope")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


async def test_what_cannot_be_loaded_is_a_line_of_its_own(lines: io.StringIO) -> None:
    await Catalogue(FakeExecutor()).load()
    *_, failed, loaded = map(json.loads, lines.getvalue().splitlines())
    assert (failed["experiment"], failed["level"]) == ("broken", "warning")
    assert (failed["error"], failed["exception"]) == ("No module named 'nothing'", "in line 1")
    assert (loaded["experiments"], loaded["failed"]) == (["mnist"], ["broken"])


def test_secrets_are_not_written(lines: io.StringIO) -> None:
    structlog.get_logger().info("called", token="lab_1_s3cret", Authorization="Bearer s3cret")
    assert "s3cret" not in lines.getvalue()


def test_people_get_text() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        logs.set_up("human", "info", stream)
        logging.getLogger("x").info("hello")
        logging.getLogger("x").debug("hidden")
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    assert "hello" in stream.getvalue()
    assert "hidden" not in stream.getvalue()


async def test_a_call_is_logged_with_its_request_and_run(
    lines: io.StringIO, surface: Surface
) -> None:
    run = await surface.run()
    metadata = (("x-request-id", "mine-1"), ("authorization", "Bearer lab_1_s3cret"))
    await surface.stub.GetRun(pb.GetRunRequest(run_id=run.id[:-1]), metadata=metadata)
    calls = [json.loads(line) for line in lines.getvalue().splitlines()]
    (call,) = (c for c in calls if c["event"] == "call" and c["method"] == "GetRun")
    assert (call["request"], call["run"], call["outcome"]) == ("mine-1", run.id, "ok")
    (other,) = (c for c in calls if c["event"] == "call" and c["method"] == "CreateRun")
    assert len(other["request"]) == 8
    assert "s3cret" not in lines.getvalue()


async def test_each_change_of_state_is_a_line_and_ends_are_counted(
    lines: io.StringIO, surface: Surface
) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    surface.supervisor._hub = AnnouncingHub(surface.store, registry)
    assert registry.get_sample_value("lab_runs_ended_total", {"state": "FAILED"}) == 0
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.move(run, RunState.FAILED)
    changes = [json.loads(line) for line in lines.getvalue().splitlines() if "changed" in line]
    assert [(c["run"], c["state"]) for c in changes] == [
        (run.id, "CREATED"),
        (run.id, "RUNNING"),
        (run.id, "FAILED"),
    ]
    assert changes[-1]["level"] == "warning"
    # not the call in whose task it happened, which may be another run's
    assert not any("request" in change for change in changes)
    assert list(changes[0])[:3] == ["timestamp", "level", "event"]
    assert registry.get_sample_value("lab_runs_ended_total", {"state": "FAILED"}) == 1


async def test_a_token_with_other_bytes_is_not_written_by_grpc_either(
    lines: io.StringIO, surface: Surface
) -> None:
    path = "/lab_rpc.v1.TrainingService/GetServerInfo"
    for value in (b"Bearer lab_0badcafe_s3cret\xe9", b"Basic s3cret\xe9", b"s3cret\xff"):
        assert await raw_http2.call(surface.address, path, (b"authorization", value)) == "answered"
    assert "s3cret" not in lines.getvalue()


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_tokens_are_redacted_wherever_they_stand(log_format: str, restored_logging: None) -> None:
    stream = io.StringIO()
    logs.set_up(log_format, "debug", stream)
    logging.getLogger("x").warning("got %s", b"authorization: Bearer s3cret\xe9")
    structlog.get_logger().info("called with lab_0badcafe_s3cret-x, or so", header="bearer  s3cret")
    try:
        int("lab_0badcafe_s3cret")
    except ValueError:
        logging.getLogger("y").exception("failed")
    assert "s3cret" not in stream.getvalue()
    assert "or so" in stream.getvalue()
    assert "invalid literal" in stream.getvalue()


def test_a_line_that_comes_again_and_again_is_due_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seldom, other = logs.Seldom(), logs.Seldom()
    due = []
    for now_s in (0.0, 1.0, 59.0, 60.0, 61.0, 200.0):
        monkeypatch.setattr("time.monotonic", lambda now_s=now_s: now_s)
        due.append(seldom.is_due())
    assert due == [True, False, False, True, False, True]
    assert other.is_due()
