"""Copies of folders that a server and its trainers write to meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

_CHECKPOINTS = "checkpoints"
_MANIFEST = "manifest.json"  # of a checkpoint: it names the other files
_DRAFT = ".tmp"
_DATABASE = ".db"
_DATABASE_SIDES = ("-wal", "-shm", "-journal")


def copy_folder(
    source: Path, target: Path, *, is_left_out: Callable[[Path], bool] = lambda _: False
) -> None:
    """Copy what is there, over what is in the target; what is removed meanwhile was not needed.

    Of a run's folder the checkpoints come first and the spool last: events up to each checkpoint that is
    copied are in the spool that is copied, or in the store.

    Args:
        source: the folder.
        target: the copy; its parent is there.
        is_left_out: of which files there is to be no copy.

    Raises:
        OSError: If the target cannot be written.
        sqlite3.Error: If a database cannot.
    """
    target.mkdir(exist_ok=True, mode=0o700)
    if source.name == _CHECKPOINTS:
        _copy_checkpoints(source, target)
        return
    try:
        entries = sorted(os.scandir(source), key=_turn)
    except FileNotFoundError:
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() or _is_in_database(entry.name, names) or is_left_out(path):
            continue
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir():
                copy_folder(path, target / entry.name, is_left_out=is_left_out)
            else:
                copy_file(path, target / entry.name)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, a database as of one moment.

    Raises:
        FileNotFoundError: If it is not there.
    """
    if source.suffix == _DATABASE and not source.is_symlink():
        with contextlib.suppress(sqlite3.Error):
            copy_database(source, target)
            return
    shutil.copy2(source, target, follow_symlinks=False)


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database as of one moment, also while somebody writes to it.

    Raises:
        sqlite3.Error: If it is none, or the target cannot be written.
    """
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)


def _turn(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    return entry.name == "spool", entry.name != _CHECKPOINTS


def _is_in_database(name: str, names: set[str]) -> bool:
    """Whether a file belongs to a database, whose copy has what is in it."""
    return any(
        name.endswith(f"{_DATABASE}{side}") and name.removesuffix(side) in names
        for side in _DATABASE_SIDES
    )


def _copy_checkpoints(source: Path, target: Path) -> None:
    """Copy checkpoints, each whole or not at all, and at least one if there is one.

    While the newest is looked for, a trainer may drop it for a newer one; so look again.
    """
    before: Sequence[str] = ()
    while True:
        names = _listed(source)
        whole = [name for name in names if _copy_checkpoint(source / name, target / name)]
        if whole or names == before:
            break
        before = names
    for name in names:
        if not whole and (source / name).is_dir():  # damaged before anybody copied it
            copy_folder(source / name, target / name)


def _listed(folder: Path) -> list[str]:
    """Return the names of checkpoints, and of such that were being replaced, the newest first."""
    try:
        names = [path.name for path in folder.iterdir() if not path.name.endswith(_DRAFT)]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: (name.isdecimal(), len(name), name), reverse=True)


def _copy_checkpoint(source: Path, target: Path) -> bool:
    """Copy a checkpoint; return False if not all of it is there any more."""
    if target.exists():
        return True  # it never changes
    with contextlib.ExitStack() as stack:
        try:
            opened = _opened(source, stack)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        # they can be read from now on, also when the trainer removes them
        draft = target.with_name(f".{target.name}{_DRAFT}")
        draft.mkdir(mode=0o700)
        for name, file in opened.items():
            with (draft / name).open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        draft.rename(target)
    return True


def _opened(folder: Path, stack: contextlib.ExitStack) -> dict[str, BinaryIO]:
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    stack.callback(os.close, folder_fd)

    def open_file(name: str) -> BinaryIO:
        if "/" in name:
            raise ValueError(name)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
        return stack.enter_context(os.fdopen(fd, "rb"))

    manifest = open_file(_MANIFEST)
    names = list(json.loads(manifest.read())["files"])
    manifest.seek(0)
    return {_MANIFEST: manifest, **{name: open_file(name) for name in names}}
