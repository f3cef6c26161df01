"""A copy of folders that trainers write to meanwhile is one that can be started on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_core import checkpoints
from lab_server.app.backup import back_up
from lab_server.files import live_copy
from lab_server.files.live_copy import copy_folder
from lab_server.files.run_folder import RunFolder
from lab_server.processes import proc
from lab_server.processes.pid_file import write_pid_file


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run's folder in a home."""
    run = RunFolder(tmp_path / "home" / "runs" / "toy" / "r1")
    run.make()
    return run


def save(run: RunFolder, step: int) -> None:
    states = {name: {"step": step, "bytes": list(range(5000))} for name in ("model", "optimizer")}
    checkpoints.save(run.checkpoints, step, states)


def good_steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints, each of which must load."""
    found = checkpoints.list_checkpoints(folder / "checkpoints")
    for checkpoint in found:
        checkpoints.load(checkpoint.path)
    return [checkpoint.step for checkpoint in found]


@contextlib.contextmanager
def training(run: RunFolder, *, keep_last: int) -> Iterator[None]:
    """Save checkpoint after checkpoint, and drop the older ones."""
    is_over = threading.Event()
    retention = checkpoints.Retention(keep_last)

    def train() -> None:
        step = 0
        while not is_over.is_set():
            step += 1
            save(run, step)
            retention.apply(run.checkpoints)

    save(run, 0)
    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_run_that_has_a_checkpoint_has_one_in_the_copy(
    run: RunFolder, tmp_path: Path, keep_last: int
) -> None:
    with training(run, keep_last=keep_last):
        for number in range(20):
            copy_folder(run.path, tmp_path / str(number))
    for number in range(20):
        assert good_steps(tmp_path / str(number)), "and none that does not load"


def test_a_checkpoint_that_is_dropped_while_it_is_copied_is_whole_in_the_copy(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 1)
    copy = shutil.copyfileobj

    def drop_first(*arguments: object) -> None:
        shutil.rmtree(run.checkpoints / "1", ignore_errors=True)
        copy(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "copyfileobj", drop_first)
    copy_folder(run.path, tmp_path / "copy")
    assert not (run.checkpoints / "1").exists()
    assert good_steps(tmp_path / "copy") == [1]


def test_a_checkpoint_that_was_damaged_before_is_copied_as_it_is(
    run: RunFolder, tmp_path: Path
) -> None:
    save(run, 1)
    (run.checkpoints / "1" / "model.pt").unlink()
    (run.checkpoints / ".2-99.tmp").mkdir()
    copy_folder(run.path, tmp_path / "copy")
    copied = tmp_path / "copy" / "checkpoints"
    assert sorted(path.name for path in copied.iterdir()) == ["1"]
    assert sorted(path.name for path in (copied / "1").iterdir()) == [
        "manifest.json",
        "optimizer.pt",
    ]


def test_events_up_to_each_checkpoint_of_the_copy_are_in_its_spool(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    copy_file = live_copy.copy_file
    opened = live_copy._opened
    for name in ("1", "2", "notes"):
        (run.spool_folder / name).touch()
    (run.path / "aaa.txt").touch()
    save(run, 1)

    def note_file(source: Path, target: Path) -> None:
        copied.append(str(source.relative_to(run.path)))
        copy_file(source, target)

    def note_checkpoint(folder: Path, stack: contextlib.ExitStack) -> object:
        copied.append("checkpoint")
        return opened(folder, stack)

    monkeypatch.setattr(live_copy, "copy_file", note_file)
    monkeypatch.setattr(live_copy, "_opened", note_checkpoint)
    copy_folder(run.path, tmp_path / "copy")
    assert copied[0] == "checkpoint"
    assert sorted(copied[-3:]) == ["spool/1", "spool/2", "spool/notes"]


def test_a_database_is_copied_without_the_files_beside_it(run: RunFolder, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(run.path / "sqlite.db")) as writing:
        writing.executescript("PRAGMA journal_mode=WAL; CREATE TABLE rows (step INTEGER);")
        writing.execute("INSERT INTO rows VALUES (1)")
        writing.commit()
        assert (run.path / "sqlite.db-wal").stat().st_size
        copy_folder(run.path, tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("sqlite.db-*"))
    with contextlib.closing(sqlite3.connect(tmp_path / "copy" / "sqlite.db")) as reading:
        assert reading.execute("SELECT step FROM rows").fetchall() == [(1,)]


# ---- a whole home


def make_store(run: RunFolder, state: str) -> None:
    with contextlib.closing(sqlite3.connect(home_of(run) / "lab.db")) as store:
        store.execute(
            "CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, attempt INT, state TEXT)"
        )
        store.execute("INSERT OR REPLACE INTO runs VALUES ('r1', 1, ?)", (state,))
        store.commit()


def home_of(run: RunFolder) -> Path:
    return run.path.parents[2]


def state_in(home: Path) -> str:
    with contextlib.closing(sqlite3.connect(home / "lab.db")) as store:
        ((state,),) = store.execute("SELECT state FROM runs").fetchall()
    return str(state)


def begin(run: RunFolder) -> None:
    me = proc.identify(os.getpid())
    assert me is not None
    write_pid_file(run.pid_file(1), me)


def test_a_run_that_ends_while_it_is_copied_has_ended_in_the_copy(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(run, "RUNNING")
    begin(run)
    run.spool(1).write_bytes(b"events")
    save(run, 1)
    opened = live_copy._opened

    def end_first(folder: Path, stack: contextlib.ExitStack) -> object:
        if run.spool(1).exists():
            save(run, 2)
            (run.path / "model.pt").write_bytes(b"weights")
            make_store(run, "COMPLETED")
            run.clear_spool(1)
            another = RunFolder(run.path.with_name("r2"))
            another.make()
            save(another, 1)
        return opened(folder, stack)

    monkeypatch.setattr(live_copy, "_opened", end_first)
    copy = tmp_path / "copy"
    back_up(home_of(run), copy)
    assert state_in(copy) == "COMPLETED"
    folder = copy / "runs" / "toy" / "r1"
    assert (folder / "model.pt").read_bytes() == b"weights"
    assert 2 in good_steps(folder)
    assert good_steps(folder.with_name("r2")) == [1], "its run is in the store that was copied last"


def test_a_run_that_trains_on_is_copied_once(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []

    def note(source: Path, target: Path) -> None:
        copies.append(target)
        live_copy.copy_database(source, target)

    monkeypatch.setattr("lab_server.app.backup.copy_database", note)
    make_store(run, "RUNNING")
    begin(run)
    run.spool(1).write_bytes(b"events")
    back_up(home_of(run), tmp_path / "copy")
    assert len(copies) == 1


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_a_trainer_measured_last_is_copied_only_if_it_is_dead(
    run: RunFolder, tmp_path: Path, is_alive: bool
) -> None:
    make_store(run, "RUNNING")
    if is_alive:
        begin(run)
    run.spool(1).write_bytes(b"events")
    run.tail(1).write_bytes(b"rows")
    back_up(home_of(run), tmp_path / "copy")
    copied = {path.name for path in (tmp_path / "copy/runs/toy/r1/spool").iterdir()}
    assert copied - {"1.pid"} == ({"1"} if is_alive else {"1", "1.tail"})
