"""A copy of LAB_HOME that a server can start on, taken while one runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from lab_core.errors import SettingsError


def back_up(home: Path, target: Path, *, has_database: bool = True) -> None:
    """Copy a server's folder to a new one, with its database if that is in it.

    The store first, and then the files: a spool may then hold more than the store knows, which the
    next server reads on, but never less.

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
            _copy_store(home / "lab.db", target / "lab.db")
        for entry in home.iterdir():
            if entry.is_dir() and entry.name != "trash":
                _copy_folder(entry, target / entry.name)
            elif entry.is_file() and not entry.name.startswith(("lab.db", "reserve", "lock")):
                _copy_file(entry, target / entry.name)
        _clear_pid_files(target)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"cannot back up {home} to {target}: {error}") from None


def _copy_store(source: Path, target: Path) -> None:
    # SQLite's own copy: of one moment, also while the server writes.
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy what is there; what a trainer removes meanwhile, an old checkpoint, was not needed."""
    target.mkdir(exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(source)):
            if entry.is_symlink():
                continue
            copy = _copy_folder if entry.is_dir() else _copy_file
            copy(Path(entry.path), target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    # A trainer's own sqlite.db is open, too.
    if source.suffix == ".db" and not source.is_symlink():
        with contextlib.suppress(sqlite3.Error):
            _copy_store(source, target)
            return
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target, follow_symlinks=False)


def _clear_pid_files(target: Path) -> None:
    """Let the copy name no trainers: on the same machine those of the original may be alive."""
    for pid_file in target.glob("runs/*/*/spool/*.pid"):
        pid_file.write_text("{}\n")
