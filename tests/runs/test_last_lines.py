"""What a trainer printed is in its spool once, wherever it, or an agent that completes it, was killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab_server.agent.spool import complete
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader, SpoolWriter
from lab_server.messages import events
from lab_server.trainer.log_sender import LogSender
from lab_server.trainer.outbox import Outbox


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.make()
    return folder


def write(folder: RunFolder, *lines: str) -> None:
    with folder.log.open("a") as log:
        log.writelines(f"{line}\n" for line in lines)


def ends_of_records(folder: RunFolder) -> list[int]:
    with SpoolReader(folder.spool(1)) as spool:
        return [record.end_offset for record in spool.read()]


def told(folder: RunFolder) -> list[str]:
    """Return the lines in the spool."""
    with SpoolReader(folder.spool(1)) as spool:
        found = [events.decode(record.payload) for record in spool.read()]
    return [line for event in found for line in event.log.lines]


def test_lines_that_a_killed_trainer_had_not_sent_are_added(folder: RunFolder) -> None:
    write(folder, "of the attempt before")
    sender = LogSender(folder, Outbox(folder, 1), folder.log.stat().st_size)
    write(folder, "one", "two")
    sender.send()
    write(folder, "three")
    complete(folder, 1)
    assert told(folder) == ["one", "two", "three"]


@pytest.mark.parametrize("num_sends", [1, 3])
def test_a_trainer_that_is_killed_before_it_notes_what_it_sent_leaves_no_line_twice(
    folder: RunFolder, num_sends: int
) -> None:
    sender = LogSender(folder, Outbox(folder, 1), 0)
    write(folder, "one")
    sender.send()
    noted = folder.log_position(1).read_bytes()
    sent = ["one"]
    for number in range(num_sends):
        write(folder, f"{number}a", f"{number}b")
        sender.send()
        sent += [f"{number}a", f"{number}b"]
    folder.log_position(1).write_bytes(noted)
    write(folder, "last")
    complete(folder, 1)
    assert told(folder) == [*sent, "last"]


def test_a_trainer_that_is_killed_while_it_notes_what_it_sent_leaves_no_line_twice(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> int:
        raise Killed

    sender = LogSender(folder, Outbox(folder, 1), 0)
    write(folder, "one", "two")
    monkeypatch.setattr(os, "pwrite", die)
    monkeypatch.setattr(Path, "write_bytes", lambda path, _: die(path.open("wb")))
    with pytest.raises(Killed):
        sender.send()
    monkeypatch.undo()
    complete(folder, 1)
    assert told(folder) == ["one", "two"]


def test_an_agent_that_is_killed_while_it_completes_a_spool_adds_no_line_twice(
    folder: RunFolder,
) -> None:
    LogSender(folder, Outbox(folder, 1), 0)
    noted = folder.log_position(1).read_bytes()
    write(folder, "one", "two")
    for _ in range(2):
        complete(folder, 1)
        folder.log_position(1).write_bytes(noted)
    assert told(folder) == ["one", "two"]


@pytest.mark.parametrize("num_torn_bytes", [1, 12, 400])
def test_lines_whose_records_are_torn_are_added(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, num_torn_bytes: int
) -> None:
    monkeypatch.setattr(events, "MAX_LOG_BYTES", 300)
    outbox = Outbox(folder, 1)
    sender = LogSender(folder, outbox, 0)
    write(folder, "one")
    sender.send()
    noted = folder.log_position(1).read_bytes()
    write(folder, *(f"line {number}" for number in range(100)))
    sender.send()
    folder.log_position(1).write_bytes(noted)
    wanted = told(folder)
    os.truncate(folder.spool(1), ends_of_records(folder)[-1] - num_torn_bytes)
    # rows of metrics take the place of what is torn
    assert outbox.tail.put(1, 1, 1.0, ("x",), [0.5], None)
    complete(folder, 1)
    assert told(folder) == wanted


@pytest.mark.parametrize("killed_at", ["append", "never"])
def test_of_very_much_that_was_not_sent_the_last_lines_are_added_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    LogSender(folder, Outbox(folder, 1), 0)
    write(folder, *(f"line {number}" for number in range(50_000)))
    if killed_at == "append":
        with monkeypatch.context() as patched:
            patched.setattr(SpoolWriter, "append", lambda *_: raise_killed())
            with pytest.raises(RuntimeError, match="killed"):
                complete(folder, 1)
    complete(folder, 1)
    first, *rest = told(folder)
    assert first.endswith("are left out here]") == (killed_at == "never")
    assert rest == [f"line {number}" for number in range(50_000 - len(rest), 50_000)]
    assert len(rest) > 20_000
    complete(folder, 1)
    assert told(folder) == [first, *rest]


def raise_killed() -> None:
    raise RuntimeError("killed")


def test_without_a_note_of_what_was_sent_nothing_is_added(folder: RunFolder) -> None:
    write(folder, "one")
    Outbox(folder, 1)
    complete(folder, 1)
    folder.log_position(1).touch()
    complete(folder, 1)
    assert told(folder) == []
