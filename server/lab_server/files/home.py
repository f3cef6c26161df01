"""Where runs lie in the server's home, how a fork gets its checkpoint, and how a run is deleted."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from lab_server.errors import NotFound
from lab_server.files.run_folder import RunFolder


class Home:
    """The server's folder. What it is given as names was checked, or was made here."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run_folder(self, experiment: str, run_id: str) -> RunFolder:
        """Return a run's folder; it may not exist."""
        safe = re.sub(r"[^\w-]|^-", "_", experiment, flags=re.ASCII)
        return RunFolder(self._path / "runs" / safe / run_id)

    def adopt_checkpoint(self, parent: RunFolder, step: int, child: RunFolder) -> None:
        """Give a fork the checkpoint it starts from, whatever becomes of the other run.

        Raises:
            NotFound: If the other run has no checkpoint of this step.
        """
        source = parent.checkpoints / str(step)
        if not source.is_dir():
            there = sorted(int(path.name) for path in parent.checkpoints.glob("[0-9]*"))
            hint = f"it has those of steps {', '.join(map(str, there))}" if there else "it has none"
            raise NotFound("checkpoint", f"of step {step}", hint)
        target = RunFolder(child.parent).checkpoints / str(step)
        shutil.copytree(source, target, copy_function=_link)

    def move_away(self, folder: RunFolder) -> Path:
        """Take a run's folder to where what is to be deleted lies, and return that place."""
        grave = self._path / "deleted" / folder.path.name
        grave.parent.mkdir(parents=True, exist_ok=True)
        if folder.path.exists():
            folder.path.rename(grave)
        else:
            grave.mkdir(exist_ok=True)
        return grave

    def half_deleted(self) -> list[Path]:
        """Return the places of runs whose deletion did not come to its end."""
        return list((self._path / "deleted").glob("*"))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def new_run_id() -> str:
    """Return an id that sorts by time, and that nobody guesses by chance."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def _link(source: str, target: str) -> str:
    # A checkpoint's files never change, so two runs can share them.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
