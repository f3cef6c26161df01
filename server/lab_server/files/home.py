"""Where runs lie in the server's home, how a fork gets its checkpoint, and where deleted runs go."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from lab_server.errors import CheckpointNotFound
from lab_server.files.lock import try_to_lock
from lab_server.files.reserve import Reserve
from lab_server.files.run_folder import RunFolder
from lab_server.files.uploads import UploadStore
from lab_server.model.fork import ForkSource


class Home:
    """The server's folder. Names that it is given were validated, or made here.

    Attributes:
        reserve: space to delete runs with.
        uploads: the code that clients sent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trash = path / "trash"
        self._lock_fd = -1
        self.reserve = Reserve(path / "reserve")
        self.uploads = UploadStore(path / "uploads")

    def prepare(self) -> None:
        """Make now what a full disk may not let be made later; one that is full already is no error."""
        with contextlib.suppress(OSError):
            self._trash.mkdir(parents=True, exist_ok=True)
        self.reserve.fill()

    def try_to_lock(self) -> bool:
        """Keep other servers out of the folder, for the life of this process; return whether it is so."""
        if self._lock_fd < 0:
            self._lock_fd = try_to_lock(self._path / "lock")
        return self._lock_fd >= 0

    def server_id(self) -> str:
        """Return the id of the server whose home this is, which stays the same."""
        path = self._path / "server_id"
        with contextlib.suppress(FileNotFoundError):
            if text := path.read_text(encoding="ascii").strip():
                return text
        text = secrets.token_hex(8)
        path.write_text(f"{text}\n", encoding="ascii")
        return text

    def run_folder(self, experiment: str, run_id: str) -> RunFolder:
        """Return a run's folder; it may not exist.

        Raises:
            ValueError: If the id is no file's name: the folder would be another one, and others remove it.
        """
        if run_id in ("", ".", "..") or "/" in run_id:
            raise ValueError(f"{run_id!r} is no run's id")
        safe = re.sub(r"[^\w-]|^-", "_", experiment, flags=re.ASCII)
        return RunFolder(self._path / "runs" / safe / run_id)

    def checkpoint_of(self, parent: RunFolder, step: int | None) -> ForkSource:
        """Return the checkpoint of a run that a fork starts from.

        Raises:
            CheckpointNotFound: If the run has none, or none of this step.
        """
        if step is None or not (parent.checkpoints / str(step)).is_dir():
            there = sorted(parent.steps())
            hint = (
                f"it has checkpoints of steps {', '.join(map(str, there))}"
                if there
                else "it has none"
            )
            which = "" if step is None else f"of step {step}"
            raise CheckpointNotFound(which or f"of run {parent.path.name}", hint)
        return ForkSource(parent.checkpoints, step)

    def adopt_checkpoint(self, parent: RunFolder, step: int, child: RunFolder) -> None:
        """Give a fork the checkpoint it starts from, independent of the other run's fate.

        Raises:
            CheckpointNotFound: If the other run has no checkpoint of this step, or drops it meanwhile.
            OSError: If the disk takes no more.
        """
        source = self.checkpoint_of(parent, step).checkpoints / str(step)
        target = RunFolder(child.parent).checkpoints / str(step)
        target.mkdir(parents=True)
        try:
            for file in source.iterdir():
                _link(file, target / file.name)
        except FileNotFoundError:
            raise CheckpointNotFound(f"of step {step}", "it was removed just now") from None

    def move_to_trash(self, folder: RunFolder) -> Path:
        """Move a run's folder to the trash, unless it is there, and return its place there.

        Raises:
            OSError: If the file system does not let it.
        """
        trash = self._trash / folder.path.name
        trash.parent.mkdir(parents=True, exist_ok=True)
        if folder.path.exists():
            folder.path.rename(trash)
        else:
            trash.mkdir(exist_ok=True)
        return trash

    def pending_deletions(self) -> list[Path]:
        """Return what is still in the trash: the folders of runs whose deletion was cut short."""
        return list(self._trash.glob("*"))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def empty(folder: Path) -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove(path)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def new_run_id() -> str:
    """Return an id that sorts by time and cannot be guessed by chance."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _link(source: Path, target: Path) -> None:
    # A checkpoint's files never change, so two runs can share them.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
