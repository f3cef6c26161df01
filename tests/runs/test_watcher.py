"""A trainer's watcher: nothing that one of its tasks meets keeps it from the others."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import pytest

from lab_core import loop
from lab_server.files import changes
from lab_server.files.bell import listen
from lab_server.files.lease import Lease, now_s
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.messages import events
from lab_server.model.run import RunState
from lab_server.trainer import watcher as module
from lab_server.trainer.outbox import Outbox
from lab_server.trainer.watcher import Watcher


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    return folder


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Give what is set when the loop is asked to stop; the watcher hardly pauses."""
    event = threading.Event()
    monkeypatch.setattr(loop, "request_stop", lambda *, checkpoint: event.set())
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    monkeypatch.setattr(module, "_PROGRESS_S", 0.001)
    return event


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def watch(
    folder: RunFolder,
    keeper_pid: int = 0,
    lease: Path | None = None,
    usage_interval_s: float = 0.0,
) -> tuple[Watcher, Outbox]:
    outbox = Outbox(folder, 1)
    watcher = Watcher(
        folder,
        outbox,
        log_offset=0,
        keeper_pid=keeper_pid,
        lease=lease,
        usage_interval_s=usage_interval_s,
    )
    watcher.note_start()
    watcher.start()
    return watcher, outbox


def sent(folder: RunFolder, kind: str) -> list[bytes]:
    reader = SpoolReader(folder.spool(1))
    found = [events.recognise(record.payload) for record in reader.read()]
    reader.close()
    return [event.payload for event in found if event.kind == kind]


@pytest.mark.parametrize("total_steps", [2**63, 2**200, -(2**70)])
def test_steps_that_no_number_counts_stop_neither_commands_nor_log_nor_heartbeat(
    folder: RunFolder,
    stopped: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    total_steps: int,
) -> None:
    steps = iter(range(1, 10**9))
    monkeypatch.setattr(loop, "get_global_step", lambda: next(steps))
    monkeypatch.setattr(loop, "total_steps", lambda: total_steps)
    counts = iter(range(10**9))
    monkeypatch.setattr(loop, "activity_count", lambda: next(counts))
    watcher, _ = watch(folder)
    folder.log.write_text("printed\n")
    folder.send(1, "stop", checkpoint=False)
    assert stopped.wait(20)
    watcher.stop()
    assert folder.heartbeat(1).exists()
    (log,) = sent(folder, "log")
    assert list(events.decode(log).log.lines) == ["printed"]
    assert {events.decode(p).progress.total_steps for p in sent(folder, "progress")} == {0}


def test_what_a_run_uses_is_sent_at_the_step_that_it_waits_at_before_the_first_look(
    folder: RunFolder, stopped: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = chain([0], repeat(30))
    monkeypatch.setattr(loop, "get_global_step", lambda: next(steps))
    watcher, _ = watch(folder, usage_interval_s=0.001)
    until(lambda: bool(sent(folder, "metrics")))
    watcher.stop()
    assert [list(events.decode(one).metrics.steps) for one in sent(folder, "metrics")] == [[30]]


@pytest.mark.parametrize("broken", ["get_global_step", "total_steps", "activity_count"])
def test_an_unexpected_error_is_printed_once_and_the_rest_goes_on(
    folder: RunFolder,
    stopped: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    failed = threading.Event()

    def fail() -> int:
        failed.set()
        raise RuntimeError("a bug in here")

    monkeypatch.setattr(loop, "get_global_step", lambda: 1)
    watcher, _ = watch(folder)
    monkeypatch.setattr(loop, broken, fail)
    assert failed.wait(20)
    folder.send(1, "stop", checkpoint=False)
    assert stopped.wait(20)
    folder.log.write_text("printed\n")
    watcher.stop()
    (log,) = sent(folder, "log")
    assert list(events.decode(log).log.lines) == ["printed"]
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_run_that_does_no_more_steps_says_so(
    folder: RunFolder, stopped: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(float(seconds) for seconds in range(10**9))
    monkeypatch.setattr("lab_server.trainer.watcher.time.monotonic", lambda: next(now))
    step = iter([0, 10, 20, 30])
    done = threading.Event()

    def get_global_step() -> int:
        try:
            return next(step)
        except StopIteration:
            reads.append(1)
            if len(reads) > 40:
                done.set()
            return 30

    reads: list[int] = []
    monkeypatch.setattr(loop, "get_global_step", get_global_step)
    watcher, _ = watch(folder)
    assert done.wait(20)
    watcher.stop()
    speeds = [events.decode(p).progress.steps_per_second for p in sent(folder, "progress")]
    assert speeds[0] > 0
    assert speeds[-1] == 0
    assert speeds.count(0) == 1


@pytest.mark.parametrize("is_gone_before", [True, False])
def test_a_trainer_dies_with_its_keeper_also_with_one_that_died_while_it_began(
    folder: RunFolder,
    stopped: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    is_gone_before: bool,
) -> None:
    killed = threading.Event()
    monkeypatch.setattr("lab_server.trainer.watcher.os.killpg", lambda group, number: killed.set())
    with subprocess.Popen(["sleep", "1000"]) as keeper:
        if is_gone_before:
            keeper.kill()
            keeper.wait()
        watcher, _ = watch(folder, keeper.pid)
        keeper.kill()
    assert killed.wait(20)
    watcher.stop()


@pytest.mark.parametrize(("kill_in_s", "number"), [(1000.0, signal.SIGTERM), (0.0, signal.SIGKILL)])
def test_a_lease_that_could_not_be_read_at_first_ends_the_trainer_when_it_is_over(
    folder: RunFolder,
    stopped: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    kill_in_s: float,
    number: signal.Signals,
) -> None:
    sent: list[int] = []
    is_read, is_ended = threading.Event(), threading.Event()
    read = Lease.read

    def try_to_read(path: Path) -> Lease | None:
        found = read(path)
        is_read.set()
        return found

    def end(_: int, number: int) -> None:
        sent.append(number)
        is_ended.set()

    monkeypatch.setattr(Lease, "read", try_to_read)
    monkeypatch.setattr("lab_server.trainer.watcher.os.kill", end)
    monkeypatch.setattr("lab_server.trainer.watcher.os.killpg", end)
    path = folder.path / "lease"
    watcher, _ = watch(folder, lease=path)
    assert is_read.wait(20)
    Lease(0.0, now_s() + kill_in_s).write(path)
    assert is_ended.wait(20)
    watcher.stop()
    assert sent[0] == number


@pytest.mark.parametrize("has_inotify", [True, False])
def test_a_command_and_a_line_are_read_when_they_come_and_not_at_the_next_look(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, has_inotify: bool
) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(loop, "request_stop", lambda *, checkpoint: stopped.set())
    monkeypatch.setattr(module, "_PROGRESS_S", 10_000.0)
    monkeypatch.setattr(changes, "_POLL_S", 20_000.0 if has_inotify else 0.001)
    if not has_inotify:
        monkeypatch.setattr(changes, "_add", lambda *_: False)
    watcher, _ = watch(folder)
    folder.log.write_text("one\n")
    until(lambda: len(sent(folder, "log")) == 1)
    folder.log.write_text("one\ntwo\n")
    until(lambda: len(sent(folder, "log")) == 2)
    assert [list(events.decode(p).log.lines) for p in sent(folder, "log")] == [["one"], ["two"]]
    folder.send(1, "stop", checkpoint=False)
    assert stopped.wait(20)
    watcher.stop()


def test_a_silent_run_is_looked_at_once_in_an_interval(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    is_enough = threading.Event()

    class NothingHappens:
        def __init__(self, _: object) -> None:
            self.is_over = threading.Event()

        def wait(self, timeout_s: float) -> bool:
            waits.append(timeout_s)
            if len(waits) < 100:
                return False
            is_enough.set()
            return self.is_over.wait(20)

        def wake(self) -> None:
            self.is_over.set()

    now = [0.0]
    monkeypatch.setattr(module, "Changes", NothingHappens)
    monkeypatch.setattr(module, "_PROGRESS_S", 7.0)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr("lab_server.trainer.watcher.time.monotonic", lambda: now[0])
    outbox = Outbox(folder, 1)
    watcher = Watcher(folder, outbox, log_offset=0)

    def read_commands() -> None:
        now[0] += waits[-1]

    monkeypatch.setattr(watcher, "_read_commands", read_commands)
    watcher.start()
    assert is_enough.wait(20)
    watcher.stop()
    assert waits[1:100] == [7.0] * 99


def test_progress_wakes_the_server_only_together_with_what_is_urgent(
    folder: RunFolder, stopped: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(1, 10**9))
    monkeypatch.setattr(loop, "get_global_step", lambda: next(steps))
    listener = listen(folder.spool(1))
    assert listener is not None
    with listener:
        watcher, outbox = watch(folder)
        until(lambda: len(sent(folder, "progress")) >= 3)
        with pytest.raises(BlockingIOError):
            listener.recv(1)
        outbox.state(RunState.RUNNING)
        assert listener.recv(1) == b""
        watcher.stop()


def test_a_spool_that_takes_no_more_ends_the_run_at_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(loop, "request_stop", lambda *, checkpoint: stopped.set())
    monkeypatch.setattr(module, "_PROGRESS_S", 10_000.0)
    is_waiting = threading.Event()
    wait = changes.Changes.wait

    def wait_long(self: changes.Changes, timeout_s: float) -> bool:
        if timeout_s > 20:
            is_waiting.set()
        return wait(self, timeout_s)

    monkeypatch.setattr(changes.Changes, "wait", wait_long)
    watcher, outbox = watch(folder)
    assert is_waiting.wait(20)

    def refuse(_: object) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(outbox._spool, "append", refuse)
    with pytest.raises(OSError, match="no space left"):
        outbox.send([events.encode_progress(1, 0, 1)])
    assert stopped.wait(20)
    watcher.stop()
