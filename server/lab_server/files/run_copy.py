"""A copy of a run's files, which arrive from another home: what was cut off goes on, and a checkpoint appears whole."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence

from lab_server.files.arriving import num_arrived, place_in, receive, sync_folder
from lab_server.files.artifacts import Artifact
from lab_server.files.pieces import Piece
from lab_server.files.run_folder import RunFolder


class RunCopy:
    """Takes a run's files. They are kept aside until `settle` moves all of them to the run's folder.

    Args:
        folder: the run's, here.
        attempt: the run's last one: what another has left aside is not gone on with.
        is_home: whether the files are kept here from now on: all of them come, in place of what is here of
            the time when the run's home was this one, and outlive a power cut once they are settled. Else what
            is here stays, and only what is not, or has another size since, comes.
    """

    def __init__(self, folder: RunFolder, attempt: int, *, is_home: bool) -> None:
        self._run_folder = folder
        self._folder = folder.path
        self._aside = folder.spool_folder / f"{attempt}.copy"
        self._is_home = is_home

    def missing(self, files: Sequence[Artifact]) -> list[str]:
        """Return which files are neither here nor aside.

        Raises:
            DamagedFile: If a path leads out of the folder.
        """
        return [file.path for file in self._new(files) if not self._is_aside(file)]

    def num_arrived(self, path: str) -> int:
        """Return how many bytes are aside of a file that was cut off."""
        return num_arrived(place_in(self._aside, path))

    async def receive(self, pieces: AsyncIterator[Piece]) -> None:
        """Take files.

        Raises:
            DamagedFile: If one is not what was announced.
            OSError: If the disk takes no more.
        """
        await receive(pieces, self._aside, is_synced=self._is_home)

    def settle(self, files: Sequence[Artifact]) -> None:
        """Move what is aside to its place, checkpoints whole.

        Args:
            files: those that `missing` was asked about.

        Raises:
            OSError: If the disk does not let it.
        """
        if self._is_home:
            self._run_folder.clear_files()
        folders = {self._folder.parent}
        for parts in dict.fromkeys(tuple(_unit(file.path)) for file in self._new(files)):
            target = self._folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._aside.joinpath(*parts).replace(target)
            folders |= {self._folder.joinpath(*parts[:depth]) for depth in range(len(parts))}
        if self._is_home:
            for folder in folders:
                sync_folder(folder)
        shutil.rmtree(self._aside, ignore_errors=True)

    def _new(self, files: Sequence[Artifact]) -> list[Artifact]:
        return [file for file in files if not self._is_here(file)]

    def _is_here(self, file: Artifact) -> bool:
        unit = "/".join(_unit(file.path))
        place = place_in(self._folder, unit)
        if self._is_home:
            return False
        if unit != file.path:
            return place.exists()  # a checkpoint, which is never changed
        return place.is_file() and place.stat().st_size == file.size_bytes

    def _is_aside(self, file: Artifact) -> bool:
        place = place_in(self._aside, file.path)
        return place.is_file() and place.stat().st_size == file.size_bytes


def _unit(path: str) -> Sequence[str]:
    """Return the parts of what appears at once: a checkpoint's folder, or a file."""
    parts = path.split("/")
    num_parts = 3 if parts[0] == "parent" else 2
    is_checkpoint = "checkpoints" in parts[: num_parts - 1] and len(parts) > num_parts
    return parts[:num_parts] if is_checkpoint else parts
