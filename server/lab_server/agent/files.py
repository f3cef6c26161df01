"""A run's files between an agent and its server: fetched before an attempt, uploaded while it trains."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog

from lab_server.agent.fetching import Fetching
from lab_server.agent.link import Link, Refused
from lab_server.files import artifacts
from lab_server.files.chunks import CHUNK_BYTES, FileChunks, chunks_of
from lab_server.files.run_folder import RunFolder, is_step
from lab_server.model.agent import AttemptKey
from lab_server.processes.patience import patiently

_log = structlog.get_logger("lab_agent")

DISK_ERRORS = (OSError, sqlite3.Error)
"""What reading the files of a run raises, and taking snapshots of its databases."""

_RETRY_S = 1.0
_LAST_TRIES = 60
_UPLOAD_CHUNKS = 8
_COPIED_BYTES = 16 << 20

Stamp = tuple[int, int, int, int]


class _ChunksMissing(Exception):
    """A file changed while it was read, or another server took over that has none of what was sent."""


class RunFiles:
    """The files of one attempt's run.

    Checkpoints are uploaded as they are taken, each after all that was recorded before it, so that an
    attempt elsewhere can go on from any of them; everything is once more when the attempt has ended.
    """

    def __init__(self, link: Link, key: AttemptKey, folder: RunFolder) -> None:
        self._link = link
        self._key = key
        self._folder = folder
        self._sent: dict[str, Stamp] = {}
        self._checkpoints: set[int] = set()
        self._num_forgotten = 0
        self._uploading = asyncio.Lock()  # guards what was sent while it is sent

    async def fetch(self) -> None:
        """Get the run's files as the server has them.

        Raises:
            DamagedFile: If one arrives as another than was announced.
            OSError: If this disk takes no more.
            Refused: If the attempt is over, for the server.
        """
        await Fetching(self._link, self._key, self._folder).run()
        for path, stamp in await asyncio.to_thread(self._loose):
            self._sent[path] = stamp
        self._checkpoints = await asyncio.to_thread(self._folder.steps)

    @property
    def has_new_checkpoint(self) -> bool:
        """Whether the trainer has taken or dropped one since the last upload."""
        return self._folder.steps() != self._checkpoints

    def forget(self) -> None:
        """Take nothing to have been sent."""
        self._sent, self._checkpoints = {}, set()
        self._num_forgotten += 1

    async def upload(self) -> None:
        """Bring the server's files up to these.

        Raises:
            DISK_ERRORS: If one cannot be read, or there is no room for a snapshot.
            Refused: If the server takes no more of the attempt.
        """
        async with self._uploading:
            while True:
                num_forgotten = self._num_forgotten
                try:
                    sent, checkpoints = await self._upload()
                except _ChunksMissing:
                    await asyncio.sleep(_RETRY_S)
                    continue
                if num_forgotten == self._num_forgotten:
                    self._sent, self._checkpoints = sent, checkpoints
                    return

    async def upload_last(self) -> None:
        """Upload what an attempt left that has ended, tried again for a minute if this disk fails.

        Raises:
            DISK_ERRORS: From the last try.
            Refused: If the server takes no more of the attempt.
        """
        for _ in range(_LAST_TRIES - 1):
            try:
                return await patiently(self.upload)
            except DISK_ERRORS as error:
                _log.warning(
                    "cannot upload a run's files; trying again",
                    attempt=str(self._key),
                    reason=str(error),
                )
                await asyncio.sleep(_RETRY_S)
        await patiently(self.upload)

    async def _upload(self) -> tuple[dict[str, Stamp], set[int]]:
        steps = await asyncio.to_thread(self._folder.steps)
        loose = await asyncio.to_thread(self._loose)
        changed = [(path, stamp) for path, stamp in loose if self._sent.get(path) != stamp]
        gone = [path for path in self._sent if path not in dict(loose)]
        dropped = [f"checkpoints/{step}" for step in sorted(self._checkpoints - steps)]
        with _snapshots(self._folder.spool_folder / f"{self._key.attempt}.snapshots") as snapshots:
            files: dict[str, Path] = {}
            for path, _ in changed:
                source = self._folder.path / path
                with contextlib.suppress(FileNotFoundError):  # removed just now
                    files[path] = await asyncio.to_thread(_still, source, snapshots, len(files))
            await self._send(files, [*gone, *dropped])
        for step in sorted(steps - self._checkpoints):
            folder = self._folder.checkpoints / str(step)
            with contextlib.suppress(FileNotFoundError):  # dropped meanwhile
                files = {f"checkpoints/{step}/{f.name}": f for f in sorted(folder.iterdir())}
                await self._send(files, [])
        return dict(loose), steps

    async def _send(self, files: dict[str, Path], removed: list[str]) -> None:
        chunked: list[FileChunks] = []
        for path, source in files.items():
            chunked.append(await asyncio.to_thread(chunks_of, source, path))
        if not chunked and not removed:
            return
        missing = set(await self._link.compare(self._key, chunked))
        batch: list[bytes] = []
        for file in chunked:
            for index, chunk in enumerate(file.chunks):
                if chunk in missing:
                    missing.discard(chunk)
                    batch.append(await asyncio.to_thread(_read, files[file.path], index, file))
                if len(batch) == _UPLOAD_CHUNKS:
                    await self._link.upload(self._key, batch)
                    batch = []
        if batch:
            await self._link.upload(self._key, batch)
        try:
            await self._link.commit(self._key, chunked, removed)
        except Refused:
            if await self._link.compare(self._key, chunked):
                raise _ChunksMissing from None
            raise

    def _loose(self) -> list[tuple[str, Stamp]]:
        """Return the files that are in no checkpoint, with what changes when they do."""
        found = []
        for path in artifacts.paths(self._folder.path):
            # what begins with a dot is a draft, or a reserve
            is_ours = "/." not in f"/{path}" and not path.endswith(_SQLITE_SIDES)
            top, _, below = path.partition("/")
            is_checkpoint = top == "checkpoints" and is_step(below.partition("/")[0])
            if is_checkpoint or top == "parent" or not is_ours:
                continue
            with contextlib.suppress(OSError):
                found.append((path, _stamp(self._folder.path / path)))
        return found


_SQLITE = b"SQLite format 3\0"
_SQLITE_SIDES = ("-wal", "-shm", "-journal")


@contextlib.contextmanager
def _snapshots(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _still(source: Path, folder: Path, number: int) -> Path:
    """Return a file that does not change while it is sent: a copy where the trainer may write to it.

    A large one that is no database is sent as it is: it grows, or is as good as never changed.
    """
    copy = folder / str(number)
    if _is_database(source):
        with (
            contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading,
            contextlib.closing(sqlite3.connect(copy)) as writing,
        ):
            reading.backup(writing)
    elif source.stat().st_size <= _COPIED_BYTES:
        shutil.copyfile(source, copy)
    else:
        return source
    return copy


def _is_database(path: Path) -> bool:
    """Whether a file is an SQLite database; others are named so, too."""
    with path.open("rb") as file:
        return path.suffix == ".db" and file.read(len(_SQLITE)) == _SQLITE


def _stamp(path: Path) -> Stamp:
    """Return what changes when a file does; what was written to a database last is beside it."""
    stat = path.stat()
    wal_size, wal_time = 0, 0
    if path.suffix == ".db":
        with contextlib.suppress(FileNotFoundError):
            wal = path.with_name(f"{path.name}-wal").stat()
            wal_size, wal_time = wal.st_size, wal.st_mtime_ns
    return stat.st_size, stat.st_mtime_ns, wal_size, wal_time


def _read(source: Path, index: int, file: FileChunks) -> bytes:
    with source.open("rb") as opened:
        opened.seek(index * CHUNK_BYTES)
        return opened.read(min(CHUNK_BYTES, file.size_bytes - index * CHUNK_BYTES))
