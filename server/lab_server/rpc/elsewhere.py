"""The files of runs that are in the home of another server: read from there, and brought here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import structlog

from lab_rpc.v1 import peer_service_pb2 as pb
from lab_server.errors import DamagedFile, StoreError
from lab_server.files.artifacts import Artifact, Chunk
from lab_server.files.home import Home
from lab_server.files.pieces import Piece
from lab_server.files.run_copy import RunCopy
from lab_server.files.run_folder import RunFolder
from lab_server.model.run import Run
from lab_server.rpc.code_elsewhere import CodeElsewhere
from lab_server.rpc.other_servers import Metadata, OtherServers, away

_log = structlog.get_logger("lab_server.peers")

_CALL_S: Final = 30.0


class Elsewhere:
    """Asks the server of a run's home for its files.

    Args:
        home: of this server.
        servers: the others.
    """

    def __init__(self, home: Path, servers: OtherServers) -> None:
        self._home = Home(home)
        self._home_id = self._home.server_id()
        self._servers = servers
        self._code = CodeElsewhere(self._home, servers)
        self._copies = home / "copies"
        shutil.rmtree(self._copies, ignore_errors=True)
        # guards each folder that files are copied to
        self._copying: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    def has(self, run: Run) -> bool:
        """Whether a run's files are in another home than this server's; those of one that trains come here."""
        has_files = run.attempt > 0 or run.request.parent is not None
        return has_files and run.home not in ("", self._home_id) and not run.state.has_process

    async def files(self, run: Run) -> list[Artifact]:
        """Return a run's files by path.

        Raises:
            Unavailable: If the server that has them is away.
        """
        request = pb.ListRunFilesRequest(run_id=run.id, experiment=run.experiment)
        async with self._stub(run) as (stub, metadata):
            answer = await stub.ListRunFiles(request, metadata=metadata, timeout=_CALL_S)
        return [Artifact(file.path, file.size_bytes) for file in answer.files]

    async def read_chunks(self, run: Run, path: str, offset: int = 0) -> AsyncGenerator[Chunk]:
        """Yield a file from an offset on, as `artifacts.read_chunks` does.

        Raises:
            NotFound: If there is no such file.
            Unavailable: If the server that has it is away.
        """
        async with contextlib.aclosing(self._fetch(run, [path], offset)) as pieces:
            async for piece in pieces:
                yield Chunk(piece.data, piece.size_bytes, piece.sha256)

    async def bring(self, run: Run) -> None:
        """Copy a run's files to this server's home, each whole and verified, in place of what is there.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        folder = self._home.run_folder(run.experiment, run.id)
        num_files = await self._copy(run, folder, lambda _: True, is_home=True)
        _log.info("copied a run's files from another server", run=run.id, files=num_files)

    async def bring_code(self, run: Run) -> None:
        """Have the code here that a client sent for a run; see CodeElsewhere."""
        await self._code.bring(run)

    async def copy_of(self, run: Run, under: Sequence[str]) -> RunFolder:
        """Return a folder with a copy of some of a run's files, to read on this server.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        folder = RunFolder(self._copies / f"{run.id}.{run.last_seq}")
        await self._copy(run, folder, lambda path: path.startswith(tuple(under)), is_home=False)
        return folder

    async def drop(self, run: Run) -> None:
        """Have the other home's server remove a run's files; where it is away, they stay."""
        request = pb.DropRunFilesRequest(run_id=run.id, experiment=run.experiment)
        try:
            async with self._stub(run) as (stub, metadata):
                await stub.DropRunFiles(request, metadata=metadata, timeout=_CALL_S)
        except Exception as error:
            _log.warning("files of a run stay where they are", run=run.id, reason=str(error))

    async def _copy(
        self, run: Run, folder: RunFolder, is_wanted: Callable[[str], bool], *, is_home: bool
    ) -> int:
        async with self._copying.setdefault(folder.path, asyncio.Lock()):
            copy = RunCopy(folder, run.attempt, is_home=is_home)
            try:
                await asyncio.to_thread(folder.make)
                wanted = [file for file in await self.files(run) if is_wanted(file.path)]
                missing = await asyncio.to_thread(copy.missing, wanted)
                if missing:
                    offset = copy.num_arrived(missing[0])
                    async with contextlib.aclosing(self._fetch(run, missing, offset)) as pieces:
                        await copy.receive(pieces)
                await asyncio.to_thread(copy.settle, wanted)
            except (OSError, DamagedFile) as error:
                raise StoreError(f"the files of run {run.id} cannot be copied: {error}") from error
            return len(missing)

    async def _fetch(
        self, run: Run, paths: Sequence[str], offset: int = 0
    ) -> AsyncGenerator[Piece]:
        request = pb.FetchRunFilesRequest(
            run_id=run.id, experiment=run.experiment, paths=paths, offset=offset
        )
        async with self._stub(run) as (stub, metadata):
            async for got in stub.FetchRunFiles(request, metadata=metadata):
                yield Piece(got.data, got.path, got.size_bytes, got.offset, got.sha256)

    @contextlib.asynccontextmanager
    async def _stub(self, run: Run) -> AsyncIterator[tuple[Any, Metadata]]:
        """Open a connection to the server that has a run's files."""
        what = f"the files of run {run.id}"
        known = [member for member in await self._servers.members() if member.home == run.home]
        live = next((member for member in known if member.is_live), None)
        if live is None:
            raise away(what, known[:1], run.home)
        async with self._servers.stub(live, what) as calls:
            yield calls
