"""The files of runs, as they are read: in this server's home, or through the server that has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from lab_server.files import artifacts
from lab_server.files.artifacts import Artifact, Chunk
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.model.run import Run
from lab_server.rpc.elsewhere import Elsewhere


class FilesOfRuns:
    """Reads the files of any run.

    Every method raises Unavailable if the server that has the files is away.

    Args:
        home: of this server.
        elsewhere: the homes of other servers; None where there is but one.
    """

    def __init__(self, home: Path, elsewhere: Elsewhere | None = None) -> None:
        self._home = Home(home)
        self._elsewhere = elsewhere

    async def list_all(self, run: Run) -> list[Artifact]:
        """Return the files of a run by path."""
        if self._elsewhere is not None and self._elsewhere.has(run):
            return await self._elsewhere.files(run)
        return await artifacts.list_artifacts(self._folder(run).path)

    def read_chunks(self, run: Run, path: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """Yield a file from an offset on; see `artifacts.read_chunks`."""
        if self._elsewhere is not None and self._elsewhere.has(run):
            return self._elsewhere.read_chunks(run, path, offset)
        return artifacts.read_chunks(self._folder(run).path, path, offset)

    async def folder(self, run: Run, under: Sequence[str]) -> RunFolder:
        """Return a folder of this server that has a run's files below some paths; it may be a copy."""
        if self._elsewhere is not None and self._elsewhere.has(run):
            return await self._elsewhere.copy_of(run, under)
        return self._folder(run)

    def _folder(self, run: Run) -> RunFolder:
        return self._home.run_folder(run.experiment, run.id)
