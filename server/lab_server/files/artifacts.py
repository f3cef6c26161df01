"""The files of a run: listed, and read in chunks with a hash.

A path that a client sent is only ever compared with the listing. Symbolic links are not followed, nor
listed: an experiment may have made one to anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab_core.errors import Violation
from lab_server.descriptors import raise_if_blind
from lab_server.errors import InvalidRequest, InvalidState, NotFound

CHUNK_BYTES: Final = 256 << 10
"""A reader that stalls costs two of these."""

_INTERNALS: Final = frozenset({"spool", "control"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file below a run's folder, its path with forward slashes."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file.

    Attributes:
        size_bytes: the whole file's size, in the first chunk; else 0.
        sha256: of the whole file, in hexadecimal, in the last chunk; else empty.
    """

    data: bytes
    size_bytes: int = 0
    sha256: str = ""


async def list_artifacts(folder: Path) -> list[Artifact]:
    """Return the files of a run by path, without those for communication of server and trainer."""
    return await asyncio.to_thread(_list, folder)


async def read_chunks(folder: Path, path: str, offset: int = 0) -> AsyncGenerator[Chunk]:
    """Yield a file from an offset on, in chunks of at most CHUNK_BYTES, at least one.

    A file that grows meanwhile is read up to the size that it had.

    Raises:
        NotFound: If the path is none that `list_artifacts` gives.
        InvalidRequest: If the offset is beyond the file's end.
        InvalidState: If the file shrinks meanwhile.
    """
    artifacts = await list_artifacts(folder)
    artifact = next((artifact for artifact in artifacts if artifact.path == path), None)
    if artifact is None:
        raise NotFound("artifact", path, "list the run's artifacts to see what there is")
    try:
        fd = await asyncio.to_thread(_open, folder, artifact.path)
    except OSError as error:
        raise_if_blind(error)
        raise NotFound("artifact", path, "it was removed or replaced just now") from error
    try:
        size = os.fstat(fd).st_size
        if offset > size:
            message = f"offset {offset} is beyond the end of {path!r}, which has {size} bytes"
            raise InvalidRequest([Violation("offset", message)])
        hasher = hashlib.sha256()
        position = 0
        while position < offset:
            # the hash is of the whole file, so what the client has already is read too
            num_bytes = min(CHUNK_BYTES, offset - position)
            position += len(await asyncio.to_thread(_read, fd, num_bytes, position, path, hasher))
        is_first = True
        while position < size or is_first:
            num_bytes = min(CHUNK_BYTES, size - position)
            data = await asyncio.to_thread(_read, fd, num_bytes, position, path, hasher)
            position += len(data)
            is_last = position == size
            yield Chunk(data, size if is_first else 0, hasher.hexdigest() if is_last else "")
            is_first = False
    finally:
        os.close(fd)


async def read_part(folder: Path, path: str, offset: int, max_bytes: int) -> tuple[int, bytes]:
    """Return a file's size and some of its bytes; a file that is not there has none.

    Args:
        folder: the run's.
        path: below it.
        offset: where to begin; a negative one counts from the end.
        max_bytes: how much to read at most.
    """
    return await asyncio.to_thread(_part, folder, path, offset, max_bytes)


def _part(folder: Path, path: str, offset: int, max_bytes: int) -> tuple[int, bytes]:
    try:
        fd = _open(folder, path)
    except OSError as error:
        raise_if_blind(error)
        return 0, b""
    try:
        size = os.fstat(fd).st_size
        start = max(0, size + offset) if offset < 0 else offset
        return size, os.pread(fd, max_bytes, start) if start < size else b""
    finally:
        os.close(fd)


def paths(folder: Path) -> list[str]:
    """Return the paths of a run's files; blocks while it looks."""
    return [artifact.path for artifact in _list(folder)]


def _list(folder: Path) -> list[Artifact]:
    return sorted(_walk(folder, "", _INTERNALS), key=lambda artifact: artifact.path)


def _walk(folder: Path | str, prefix: str, hidden: frozenset[str]) -> Iterator[Artifact]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # a checkpoint that was just dropped
    for entry in entries:
        if entry.name in hidden or not _is_text(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", frozenset())
        elif entry.is_file(follow_symlinks=False):
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            yield Artifact(prefix + entry.name, size)


def _is_text(name: str) -> bool:
    """Tell whether a message can carry the name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open(folder: Path, path: str) -> int:
    """Open a listed file; a link that took the place of one of its folders since is not followed."""
    *parents, name = path.split("/")
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner_fd = os.open(parent, flags, dir_fd=folder_fd)
            os.close(folder_fd)
            folder_fd = inner_fd
        # a pipe that took the file's place would block the opening
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


def _read(fd: int, num_bytes: int, position: int, path: str, hasher: hashlib._Hash) -> bytes:
    data = os.pread(fd, num_bytes, position)
    if len(data) < num_bytes:
        raise InvalidState(f"{path!r} became shorter while it was read; download it again")
    hasher.update(data)
    return data
