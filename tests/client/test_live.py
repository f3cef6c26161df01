"""Progress, as bars, as lines and live in a terminal."""

from __future__ import annotations

import io
import itertools
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from lab_client import Client
from lab_client.cli.live import LiveView
from lab_client.events import Column, Event, Metrics
from lab_client.history import History
from lab_client.metric_names import important
from lab_client.protocol import event_convert, run_convert
from lab_client.views.progress import BarView, LinesView, ProgressView, make_view
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin, TwinRun


def watch(run: TwinRun, view: ProgressView) -> None:
    for event in run.log:
        view.update(event_convert.event(event))


@pytest.fixture
def run(twin: Twin) -> TwinRun:
    run = twin.add_run(name="digits")
    run.state(event_pb2.RUN_STATE_RUNNING)
    run.add(progress=event_pb2.Progress(step=2, total_steps=10, steps_per_second=4.0))
    run.measure(3, loss=[0.5, 0.25], accuracy=[0.5, 0.75])
    run.add(truncate=event_pb2.Truncate(after_step=3))
    run.add(checkpoint=event_pb2.Checkpoint(step=3, size_bytes=1))
    return run


@pytest.fixture
def new(twin: Twin) -> Any:
    return run_convert.run(twin.add_run(name="digits").message)


def test_a_view_keeps_where_the_run_is(run: TwinRun, new: Any) -> None:
    view = ProgressView(new)
    watch(run, view)
    assert (view.step, view.total_steps, view.state) == (3, 10, "RUNNING")
    assert view.metrics == {"loss": 0.25, "accuracy": 0.75}


def test_lines_come_with_the_state_and_then_a_few_seconds_apart(run: TwinRun, new: Any) -> None:
    output = io.StringIO()
    now = iter(range(1000))
    with LinesView(new, output, lambda: float(next(now))) as view:
        for _ in range(4):
            watch(run, view)
    first, second, *lines = output.getvalue().splitlines()
    assert first == "digits: CREATED step 0"
    assert second == "digits: RUNNING step 0"
    assert lines[-1] == "digits: RUNNING step 3/10 loss=0.25 accuracy=0.75"
    assert 1 < len(lines) < 7


def test_a_bar_shows_steps_and_metrics(
    run: TwinRun, new: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with BarView(new) as view:
        watch(run, view)
    bar = capsys.readouterr().err.splitlines()[-1]
    assert "digits" in bar
    assert "3/10" in bar
    assert "loss=0.25, accuracy=0.75" in bar


@pytest.fixture
def queued(twin: Twin) -> TwinRun:
    run = twin.add_run(name="digits")
    run.state(event_pb2.RUN_STATE_QUEUED)
    run.message.reason = "position 2 of 2"
    return run


def test_a_run_that_waits_is_shown_as_waiting_at_once(
    queued: TwinRun, capsys: pytest.CaptureFixture[str]
) -> None:
    info = run_convert.run(queued.message)
    output = io.StringIO()
    with LinesView(info, output):
        assert output.getvalue() == "digits: QUEUED, position 2 of 2\n"
    with BarView(info):
        assert "digits queued" in capsys.readouterr().err


def test_what_a_run_waits_for_is_asked_again_while_nothing_happens(
    twin: Twin, queued: TwinRun
) -> None:
    reasons = []

    class View(ProgressView):
        def waits(self, reason: str) -> None:
            reasons.append(reason)
            if reason == "position 2 of 2":
                queued.message.reason = "position 1 of 1"
                twin.wake()
            else:
                queued.state(event_pb2.RUN_STATE_COMPLETED)

    with Client(twin.address) as client:
        run = client.run(queued.message.id)
        run.show_progress(View(run.info))
    assert reasons == ["position 2 of 2", "position 1 of 1"]


def test_nothing_is_shown_when_nothing_was_asked_for(
    run: TwinRun, new: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with make_view(False, new) as view:
        watch(run, view)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_are_lines(new: Any) -> None:
    assert isinstance(make_view(True, new), LinesView)


def test_losses_and_accuracies_come_first() -> None:
    metrics = {"lr": 1.0, "a.b.c_loss": 0.0, "test_acc": 1.0, "loss": 1.0, "z": 1.0, "y": 1.0}
    assert list(important(metrics)) == ["loss", "test_acc", "lr", "z"]
    assert list(important({"a.b.c": 1.0})) == ["a.b.c"]


def test_the_live_view_draws_state_bar_metrics_and_plots(run: TwinRun, new: Any) -> None:
    view = LiveView(new, History("r", {}))
    watch(run, view)
    run.measure(4, loss=[0.2, 0.15, 0.12, 0.1])
    view.update(event_convert.event(run.log[-1]))
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(view)
    text = console.export_text()
    for part in ("digits", "RUNNING", "7/10", "4 steps/s", "checkpoint 3", "loss 0.1", "┤"):
        assert part in text


def test_it_is_drawn_in_one_thread_while_events_come_in_another(new: Any) -> None:
    view = LiveView(new, History("r", {}))
    console = Console(file=io.StringIO(), width=100)
    is_over = threading.Event()

    def train() -> None:
        for step in itertools.count():
            names = {f"loss{step // 100}", "loss"}
            columns = {name: Column([1.0], []) for name in names}
            view.update(Event(step, 1, 0, Metrics([step], columns, 1)))
            if is_over.is_set():
                return

    training = threading.Thread(target=train)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    training.start()
    try:
        for _ in range(50):
            console.print(view)
    finally:
        is_over.set()
        training.join()
        sys.setswitchinterval(interval)


def read_all(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        if not chunk:
            return
        yield chunk


@pytest.mark.slow
def test_watch_in_a_terminal_draws_and_ends_with_the_run(twin: Twin, run: TwinRun) -> None:
    ours, theirs = pty.openpty()
    code = "from lab_client.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--server", twin.address, "watch", run.message.id],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(theirs)

    def finish() -> None:
        run.measure(4, loss=[0.2, 0.15, 0.1, 0.05])
        run.state(event_pb2.RUN_STATE_COMPLETED)

    twin.when_watched(finish)
    screen = b"".join(read_all(ours)).decode()
    os.close(ours)
    assert process.wait(60) == 0
    assert "COMPLETED" in screen
    assert "┤" in screen


def test_wait_with_progress_shows_how_it_ended(
    twin: Twin, run: TwinRun, capsys: pytest.CaptureFixture[str]
) -> None:
    twin.when_watched(run.state, event_pb2.RUN_STATE_COMPLETED)
    with Client(twin.address) as client:
        client.run(run.message.id).wait(progress=True)
    assert capsys.readouterr().err.splitlines()[-1].startswith("digits: COMPLETED step 4")


def test_a_dead_server_is_told_and_hides_speed_and_time_left(run: TwinRun, new: Any) -> None:
    view = LiveView(new, History("r", {}))
    watch(run, view)

    def screen() -> str:
        console = Console(file=io.StringIO(), width=120, record=True)
        console.print(view)
        return console.export_text()

    view.no_answer("box:1", 1.0)
    assert "no answer" not in screen()
    assert "s left" in screen()
    view.no_answer("box:1", 12.4)
    assert "no answer from box:1 for 12 s, reconnecting (the run is not affected)" in screen()
    assert "steps/s" not in screen()
    assert "s left" not in screen()
    view.no_answer("box:1", 0.0)
    assert "no answer" not in screen()
    assert "steps/s" in screen()


def test_a_bar_and_lines_tell_of_a_dead_server(
    run: TwinRun, new: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    output = io.StringIO()
    now = iter(range(0, 10000, 10))
    lines = LinesView(new, output, lambda: float(next(now)))
    with BarView(new) as bar:
        watch(run, bar)
        for view in (bar, lines):
            view.no_answer("box:1", 12.0)
        told = capsys.readouterr().err.rpartition("\r")[2]
        assert "digits, no answer from box:1 for 12 s" in told
        assert "step/s" not in told
        bar.no_answer("box:1", 0.0)
    assert "no answer" not in capsys.readouterr().err.splitlines()[-1]
    assert output.getvalue().startswith("digits: no answer from box:1 for 12 s")


def test_a_view_is_told_while_the_server_is_away_and_when_it_is_back(
    twin: Twin, run: TwinRun
) -> None:
    told: list[float] = []

    class View(ProgressView):
        def no_answer(self, address: str, seconds: float) -> None:
            assert address == twin.address
            told.append(seconds)
            if len(told) == 1:
                twin.restart()
                run.state(event_pb2.RUN_STATE_COMPLETED)

    twin.cuts.extend([0, 0])
    with Client(twin.address) as client:
        handle = client.run(run.message.id)
        handle.show_progress(View(handle.info))
    assert told[-1] == 0.0
    assert told == [*sorted(told[:-1]), 0.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_warnings_in_a_log_are_coloured_where_colours_are_wanted(
    twin: Twin, run: TwinRun, environment: dict[str, str], is_coloured: bool
) -> None:
    run.add(log=event_pb2.Log(level=event_pb2.LOG_LEVEL_WARNING, lines=["careful"]))
    ours, theirs = pty.openpty()
    code = "from lab_client.cli import main; main()"
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--server", twin.address, "logs", run.message.id],
        stdout=theirs,
        stderr=theirs,
        env={**plain, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    screen = b"".join(read_all(ours)).decode()
    os.close(ours)
    assert process.wait(60) == 0
    assert "careful" in screen
    assert ("\x1b[33m" in screen) is is_coloured
