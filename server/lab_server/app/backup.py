"""A copy of LAB_HOME that a server can start on, taken while one runs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lab_core.errors import SettingsError
from lab_server.files.live_copy import copy_database, copy_file, copy_folder
from lab_server.processes import proc
from lab_server.processes.pid_file import read_pid_file

_MAX_ROUNDS: Final = 5
_WITH_A_TRAINER: Final = """
    SELECT id, attempt FROM runs
    WHERE attempt > 0 AND state NOT IN ('COMPLETED', 'STOPPED', 'FAILED')
"""


def back_up(home: Path, target: Path, *, has_database: bool = True) -> None:
    """Copy a server's folder to a new one, with its database if that is in it.

    The store first, and then the files: a spool may then hold more than the store knows, which the
    next server reads on, but never less. Where a run has ended meanwhile, and its spool was removed, the store
    is copied again, and what has changed of such runs.

    Raises:
        SettingsError: If the folder is not a server's home, or the target cannot be written, is not empty or
            is in that home.
    """
    name = "lab.db" if has_database else "server_id"
    if not (home / name).is_file():
        raise SettingsError(f"home={home} is not a server's home: it has no {name}")
    if target.resolve().is_relative_to(home.resolve()):
        raise SettingsError(f"{target} is in home={home}; a backup needs a folder elsewhere")
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(target.iterdir()):
            raise SettingsError(f"{target} is not empty; a backup needs an empty folder")
        if has_database:
            (target / "lab.db").touch(mode=0o600)
            copy_database(home / "lab.db", target / "lab.db")
        _copy_files(home, target)
        for _ in range(_MAX_ROUNDS if has_database else 0):
            ended = _ended_meanwhile(home, target)
            if not ended:
                break
            copy_database(home / "lab.db", target / "lab.db")
            for folder in {*ended, *_new_runs(home, target)}:
                copy = target / folder.relative_to(home)
                copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                copy_folder(folder, copy, is_left_out=_is_tail_of_live_trainer)
        _clear_pid_files(target)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"cannot back up {home} to {target}: {error}") from None


def _copy_files(home: Path, target: Path) -> None:
    for entry in home.iterdir():
        if entry.is_dir() and entry.name != "trash":
            copy_folder(entry, target / entry.name, is_left_out=_is_tail_of_live_trainer)
        elif entry.is_file() and not entry.name.startswith(("lab.db", "reserve", "lock")):
            with contextlib.suppress(FileNotFoundError):
                copy_file(entry, target / entry.name)


def _is_tail_of_live_trainer(path: Path) -> bool:
    """Whether what is in a file is in the spool, too, by the time that that is copied."""
    if path.suffix != ".tail" or path.parent.name != "spool":
        return False
    trainer = read_pid_file(path.with_suffix(".pid"))
    return trainer is not None and not trainer.agent and proc.is_alive(trainer)


def _ended_meanwhile(home: Path, target: Path) -> list[Path]:
    """Return the folders of runs that train in the copied store, and whose events were gone before the copy."""
    with contextlib.closing(sqlite3.connect(target / "lab.db")) as store:
        try:
            training = store.execute(_WITH_A_TRAINER).fetchall()
        except sqlite3.OperationalError:  # a store of another version
            return []
    return [
        folder
        for run_id, attempt in training
        for folder in _folders_of(home, run_id)
        # the pid file stays
        if (folder / "spool" / f"{attempt}.pid").exists()
        and not (target / folder.relative_to(home) / "spool" / str(attempt)).exists()
    ]


def _folders_of(home: Path, run_id: str) -> Iterable[Path]:
    return (folder / run_id for folder in (home / "runs").glob("*") if (folder / run_id).is_dir())


def _new_runs(home: Path, target: Path) -> list[Path]:
    runs = home.glob("runs/*/*")
    return [folder for folder in runs if not (target / folder.relative_to(home)).exists()]


def _clear_pid_files(target: Path) -> None:
    """Let the copy name no trainers: on the same machine those of the original may be alive."""
    for pid_file in target.glob("runs/*/*/spool/*.pid"):
        pid_file.write_text("{}\n")
