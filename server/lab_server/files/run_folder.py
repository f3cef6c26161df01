"""Where things lie in a run's folder: the names that the server and its trainers share."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab_server.descriptors import raise_if_blind


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths below one run's folder."""

    path: Path

    @property
    def spool_folder(self) -> Path:
        """Where the attempts write for the server."""
        return self.path / "spool"

    @property
    def control(self) -> Path:
        """Commands of the server to the trainer, JSON lines."""
        return self.path / "control"

    @property
    def log(self) -> Path:
        """What the trainer and the experiment printed, all attempts."""
        return self.path / "log.txt"

    @property
    def log_levels(self) -> Path:
        """Which parts of the log are errors and warnings; see `files.log_levels`."""
        return self.path / "log.levels"

    @property
    def checkpoints(self) -> Path:
        """One folder a step."""
        return self.path / "checkpoints"

    @property
    def parent(self) -> Path:
        """A run folder of its own, with the checkpoint that a fork starts from."""
        return self.path / "parent"

    def steps(self) -> set[int]:
        """Return the steps of the checkpoints; an experiment may have other things in their folder, too.

        Raises:
            OSError: If there is no file descriptor to look with.
        """
        try:
            entries = list(os.scandir(self.checkpoints))
        except OSError as error:
            raise_if_blind(error)
            return set()
        return {int(e.name) for e in entries if is_step(e.name) and e.is_dir()}

    def code(self, digest: str) -> Path:
        """Copies of the source files of an attempt; attempts of equal code share them."""
        return self.path / "code" / digest[:12]

    def spool(self, attempt: int) -> Path:
        """The attempt's events."""
        return self.spool_folder / str(attempt)

    def tail(self, attempt: int) -> Path:
        """What the attempt measured last, in memory that outlives it."""
        return self.spool_folder / f"{attempt}.tail"

    def pid_file(self, attempt: int) -> Path:
        """Which process is the attempt's trainer; written once, by that process."""
        return self.spool_folder / f"{attempt}.pid"

    def heartbeat(self, attempt: int) -> Path:
        """A file whose mtime is the time at which the attempt last made progress."""
        return self.spool_folder / f"{attempt}.heartbeat"

    def log_position(self, attempt: int) -> Path:
        """How much of the log is in the spool; see `files.log_sent`."""
        return self.spool_folder / f"{attempt}.log"

    def reserve(self, attempt: int) -> Path:
        """Space that is freed for the attempt's outcome when the disk is full."""
        return self.spool_folder / f"{attempt}.reserve"

    def make(self) -> None:
        """Make the folders that the server and its trainer write to."""
        self.spool_folder.mkdir(parents=True, exist_ok=True)

    def clear_files(self) -> None:
        """Remove all but what server and trainer write for each other.

        Raises:
            OSError: If the disk does not let it.
        """
        for entry in list(self.path.iterdir()):
            if entry in (self.spool_folder, self.control):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def clear_spool(self, attempt: int) -> None:
        """Remove what an attempt that has ended, and those before it, left for the server.

        The pid files stay: a launch that was asked for by a server that died, and comes too late, must
        find that its attempt was made.
        """
        with contextlib.suppress(OSError):  # somebody removed the folder, or made it read-only
            for path in self.spool_folder.iterdir():
                if _attempt_of(path) > attempt:
                    continue  # the run was resumed meanwhile
                if path.is_dir():  # of files that were arriving from an agent
                    shutil.rmtree(path, ignore_errors=True)
                elif path.suffix != ".pid":
                    path.unlink(missing_ok=True)

    def send(self, attempt: int, command: str, **arguments: object) -> None:
        """Append a command for the attempt's trainer, and sync it to the disk.

        Raises:
            OSError: If the disk does not take all of it.
        """
        line = json.dumps({"attempt": attempt, "command": command, **arguments}) + "\n"
        fd = os.open(self.control, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = f"\n{line}"  # the one before was torn
            data = line.encode()
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)

    def commands(self, attempt: int) -> list[str]:
        """Return the lines of the file that are commands for the attempt's trainer, whole ones.

        Raises:
            OSError: If there is no file descriptor to read them with.
        """
        try:
            lines = self.control.read_bytes().splitlines()
        except OSError as error:
            raise_if_blind(error)
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, AttributeError):
                if json.loads(line).get("attempt") == attempt:
                    found.append(line.decode())
        return found

    def was_sent(self, attempt: int, command: str) -> bool:
        """Whether a command for the attempt's trainer is in the file, whole."""
        return any(json.loads(line).get("command") == command for line in self.commands(attempt))


def is_step(name: str) -> bool:
    """Whether a name in the folder of the checkpoints is that of a checkpoint, not of something else."""
    return name.isascii() and name.isdecimal()


def _attempt_of(path: Path) -> int:
    number = path.name.partition(".")[0]
    return int(number) if number.isdecimal() else 0
