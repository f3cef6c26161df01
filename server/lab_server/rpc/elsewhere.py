"""The files of runs that are in the home of another server: read from there, and brought here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import grpc
import grpc.aio
import structlog

from lab_rpc.v1 import peer_service_pb2 as pb
from lab_rpc.v1 import peer_service_pb2_grpc
from lab_server.errors import StoreError, Unavailable
from lab_server.files.artifacts import Artifact, Chunk
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.model.run import Run
from lab_server.rpc.calls.status import error_of
from lab_server.security.host_tokens import HostTokens
from lab_server.store.databases.members import Member

_log = structlog.get_logger("lab_server.peers")

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
_CALL_S: Final = 30.0


class Elsewhere:
    """Asks the server of a run's home for its files.

    Args:
        home: of this server.
        members: returns the servers of the store.
        tokens: by which this server proves that it is one of them.
        credentials: for the connections; None for ones without TLS.
    """

    def __init__(
        self,
        home: Path,
        members: Callable[[], Awaitable[Sequence[Member]]],
        tokens: HostTokens,
        credentials: grpc.ChannelCredentials | None,
    ) -> None:
        self._home = Home(home)
        self._home_id = self._home.server_id()
        self._members = members
        self._tokens = tokens
        self._credentials = credentials
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
        async with self._stub(run) as stub:
            answer = await stub.ListRunFiles(request, metadata=self._proof(), timeout=_CALL_S)
        return [Artifact(file.path, file.size_bytes) for file in answer.files]

    async def read_chunks(self, run: Run, path: str, offset: int = 0) -> AsyncIterator[Chunk]:
        """Yield a file from an offset on, as `artifacts.read_chunks` does.

        Raises:
            NotFound: If there is no such file.
            Unavailable: If the server that has it is away.
        """
        async with contextlib.aclosing(self._fetch(run, [path], offset)) as answers:
            async for answer in answers:
                yield Chunk(answer.data, answer.size_bytes, answer.sha256)

    async def bring(self, run: Run) -> None:
        """Copy to this server's home what of a run's files is not there, each whole and verified.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        folder = self._home.run_folder(run.experiment, run.id)
        num_files = await self._copy(run, folder, lambda _: True)
        _log.info("copied a run's files from another server", run=run.id, files=num_files)

    async def copy_of(self, run: Run, under: Sequence[str]) -> RunFolder:
        """Return a folder with a copy of some of a run's files, to read on this server.

        Raises:
            StoreError: If they cannot be written.
            Unavailable: If the server that has them is away.
        """
        folder = RunFolder(self._copies / f"{run.id}.{run.last_seq}")
        await self._copy(run, folder, lambda path: path.startswith(tuple(under)))
        return folder

    async def _copy(self, run: Run, folder: RunFolder, is_wanted: Callable[[str], bool]) -> int:
        async with self._copying.setdefault(folder.path, asyncio.Lock()):
            staging = folder.spool_folder / "arriving"
            try:
                await asyncio.to_thread(_make_anew, folder, staging)
                wanted = [file.path for file in await self.files(run) if is_wanted(file.path)]
                missing = await asyncio.to_thread(_missing, folder, wanted)
                if missing:
                    async with contextlib.aclosing(self._fetch(run, missing)) as answers:
                        await _write(answers, staging)
                await asyncio.to_thread(_move, staging, folder.path, missing)
            except OSError as error:
                raise StoreError(f"the files of run {run.id} cannot be copied: {error}") from error
            return len(missing)

    async def drop(self, run: Run) -> None:
        """Have the other home's server remove a run's files; where it is away, they stay."""
        request = pb.DropRunFilesRequest(run_id=run.id, experiment=run.experiment)
        try:
            async with self._stub(run) as stub:
                await stub.DropRunFiles(request, metadata=self._proof(), timeout=_CALL_S)
        except Exception as error:
            _log.warning("files of a run stay where they are", run=run.id, reason=str(error))

    async def _fetch(
        self, run: Run, paths: Sequence[str], offset: int = 0
    ) -> AsyncGenerator[pb.FetchRunFilesResponse]:
        request = pb.FetchRunFilesRequest(
            run_id=run.id, experiment=run.experiment, paths=paths, offset=offset
        )
        async with self._stub(run) as stub:
            async for answer in stub.FetchRunFiles(request, metadata=self._proof()):
                yield answer

    @contextlib.asynccontextmanager
    async def _stub(self, run: Run) -> AsyncIterator[Any]:
        """Open a connection to the server that has a run's files; its errors become ours."""
        member = await self._keeper(run)
        channel = (
            grpc.aio.insecure_channel(member.address, _OPTIONS)
            if self._credentials is None
            else grpc.aio.secure_channel(member.address, self._credentials, _OPTIONS)
        )
        async with channel:
            try:
                yield peer_service_pb2_grpc.PeerServiceStub(channel)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
                    raise _away(run, member.address) from error
                raise error_of(error) from error

    async def _keeper(self, run: Run) -> Member:
        known = [member for member in await self._members() if member.home == run.home]
        for member in known:
            if member.is_live:
                return member
        raise _away(run, known[0].address if known else "")

    def _proof(self) -> Sequence[tuple[str, str]]:
        return (("authorization", f"Bearer {self._tokens.new()}"),)


def _away(run: Run, address: str) -> Unavailable:
    where = f"the server {address}" if address else f"a server with the home {run.home}"
    return Unavailable(
        f"the files of run {run.id} are on {where}, which is away: start it again; with one LAB_HOME for all"
        " servers, each has all files"
    )


def _make_anew(folder: RunFolder, staging: Path) -> None:
    folder.make()
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)


def _missing(folder: RunFolder, paths: Sequence[str]) -> list[str]:
    """Return which files are not in a folder; a checkpoint is there with all its files, or not at all."""
    return [path for path in paths if not folder.path.joinpath(*_whole(path)).exists()]


def _whole(path: str) -> list[str]:
    """Return the parts of what appears at once: a checkpoint's folder, or a file."""
    parts = path.split("/")
    num_parts = 3 if parts[0] == "parent" else 2
    is_checkpoint = "checkpoints" in parts[: num_parts - 1] and len(parts) > num_parts
    return parts[:num_parts] if is_checkpoint else parts


async def _write(answers: AsyncIterator[pb.FetchRunFilesResponse], staging: Path) -> None:
    fd, hasher = -1, hashlib.sha256()
    try:
        async for answer in answers:
            if answer.path:
                parts = answer.path.split("/")
                if any(part in ("", ".", "..") for part in parts):
                    raise OSError(0, f"{answer.path!r} is no path of a run's file")
                target = staging.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                fd, hasher = _reopened(fd, target), hashlib.sha256()
            await asyncio.to_thread(_write_all, fd, answer.data)
            hasher.update(answer.data)
            if answer.sha256 and hasher.hexdigest() != answer.sha256:
                raise OSError(0, f"a file of {staging} arrived damaged")
    finally:
        if fd >= 0:
            os.close(fd)


def _reopened(fd: int, target: Path) -> int:
    if fd >= 0:
        os.fsync(fd)
        os.close(fd)
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _move(staging: Path, folder: Path, paths: Sequence[str]) -> None:
    """Move what arrived to its place, checkpoints whole."""
    for parts in dict.fromkeys(tuple(_whole(path)) for path in paths):
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            staging.joinpath(*parts).replace(target)
    shutil.rmtree(staging, ignore_errors=True)
