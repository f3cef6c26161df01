"""Files as hashed chunks, so that only what is new of them travels, and arrives whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest, InvalidState
from lab_server.files.arriving import is_below
from lab_server.files.run_folder import RunFolder, is_step

CHUNK_BYTES: Final = 1 << 20
MAX_CHUNKS: Final = 4 << 20
"""Of the files that travel together, such as those of a checkpoint of 4 TiB: they are known at once."""

_HASH_BYTES: Final = hashlib.sha256().digest_size
_INTERNALS: Final = frozenset({"spool", "control", "parent"})


@dataclass(frozen=True, slots=True)
class FileChunks:
    """A file below a run's folder.

    Attributes:
        path: below the folder, with forward slashes.
        size_bytes: of the whole file.
        chunks: the SHA-256 of each CHUNK_BYTES of it.
    """

    path: str
    size_bytes: int
    chunks: tuple[bytes, ...]


class FileList:
    """Files that are told one after the other, each with all of its chunks or with some at a time."""

    def __init__(self) -> None:
        self._files: list[tuple[str, int, list[bytes]]] = []
        self._num_chunks = 0

    def add(self, path: str, size_bytes: int, chunks: Sequence[bytes]) -> None:
        """Take a file, or without a path more of the chunks of the one before.

        Raises:
            InvalidRequest: If there is no file before, or a chunk's hash is none, or there are too many.
        """
        self._num_chunks += len(chunks)
        problem = ""
        if not path and not self._files:
            problem = "there is no file before these chunks"
        if any(len(chunk) != _HASH_BYTES for chunk in chunks):
            problem = "a chunk's hash is not a SHA-256"
        if self._num_chunks > MAX_CHUNKS:
            problem = f"there may be at most {MAX_CHUNKS} chunks at a time"
        if problem:
            raise InvalidRequest([Violation("files.chunks", problem)])
        if path:
            self._files.append((path, size_bytes, []))
        self._files[-1][2].extend(chunks)

    def whole(self) -> list[FileChunks]:
        """Return the files."""
        return [FileChunks(path, size, tuple(chunks)) for path, size, chunks in self._files]


def chunks_of(file: Path, path: str) -> FileChunks:
    """Return a file's chunks; one that grows meanwhile up to the size it had.

    Raises:
        OSError: If it cannot be read.
    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        left = size
        chunks = []
        while left > 0 and (data := opened.read(min(CHUNK_BYTES, left))):
            chunks.append(hashlib.sha256(data).digest())
            left -= len(data)
    return FileChunks(path, size - left, tuple(chunks))


class Arrivals:
    """Where the files of a remote attempt arrive, on the server.

    Chunks are kept beside the spool until files are put together from them and from what the run's
    folder has already. The files of a checkpoint appear together.
    """

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self._folder = folder
        self._staging = folder.spool_folder / f"{attempt}.chunks"

    def missing(self, files: Iterable[FileChunks]) -> list[bytes]:
        """Return the hashes of the chunks that are neither in the run's files nor kept.

        Raises:
            InvalidRequest: If a path is not one below the run's folder, or chunks do not fit a size.
        """
        wanted: dict[bytes, None] = {}
        for file in files:
            target = self._target(file)
            there = set(chunks_of(target, "").chunks) if target.is_file() else set()
            wanted |= dict.fromkeys(chunk for chunk in file.chunks if chunk not in there)
        return [chunk for chunk in wanted if not (self._staging / chunk.hex()).exists()]

    def keep(self, data: bytes) -> None:
        """Keep a chunk until it is needed.

        Raises:
            OSError: If the disk takes no more.
        """
        self._staging.mkdir(exist_ok=True)
        place = self._staging / hashlib.sha256(data).hexdigest()
        draft = place.with_suffix(".new")
        draft.write_bytes(data)
        draft.replace(place)

    def commit(self, files: Sequence[FileChunks], removed: Iterable[str]) -> None:
        """Put files together, drop the chunks, and remove files and checkpoints that are gone.

        Raises:
            InvalidRequest: If a path is not one below the run's folder.
            InvalidState: If a chunk is missing.
            OSError: If the disk takes no more.
        """
        self._staging.mkdir(exist_ok=True)
        drafts = [(self._target(file), self._assemble(file, n)) for n, file in enumerate(files)]
        checkpoints = self._folder.checkpoints
        whole: dict[Path, Path] = {}
        for target, draft in drafts:
            if target.parent.parent == checkpoints and is_step(target.parent.name):
                aside = whole.setdefault(target.parent, self._staging / f"{target.parent.name}.dir")
                aside.mkdir(exist_ok=True)
                draft.replace(aside / target.name)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                draft.replace(target)
        for checkpoint, aside in whole.items():
            checkpoints.mkdir(exist_ok=True)
            if checkpoint.exists():
                shutil.rmtree(checkpoint)
            aside.replace(checkpoint)
        for gone in [self._place(path) for path in removed]:
            if gone.is_dir():
                shutil.rmtree(gone)
            else:
                gone.unlink(missing_ok=True)
        shutil.rmtree(self._staging, ignore_errors=True)

    def _assemble(self, file: FileChunks, number: int) -> Path:
        draft = self._staging / f"{number}.draft"
        target = self._target(file)
        with draft.open("wb") as out:
            for index, chunk in enumerate(file.chunks):
                out.write(self._chunk(chunk, target, index))
            if out.tell() != file.size_bytes:
                raise InvalidState(f"{file.path!r} has {out.tell()} bytes, not {file.size_bytes}")
            out.flush()
            os.fsync(out.fileno())
        return draft

    def _chunk(self, chunk: bytes, target: Path, index: int) -> bytes:
        staged = self._staging / chunk.hex()
        if staged.exists():
            return staged.read_bytes()
        if target.is_file():
            with target.open("rb") as old:
                old.seek(index * CHUNK_BYTES)
                data = old.read(CHUNK_BYTES)
            if hashlib.sha256(data).digest() == chunk:
                return data
            # the chunk may have moved within the file
            with target.open("rb") as old:
                while data := old.read(CHUNK_BYTES):
                    if hashlib.sha256(data).digest() == chunk:
                        return data
        raise InvalidState("a chunk of a file is missing; compare the files again")

    def _target(self, file: FileChunks) -> Path:
        if len(file.chunks) != -(-file.size_bytes // CHUNK_BYTES):
            problem = f"{file.size_bytes} bytes are not {len(file.chunks)} chunks"
            raise InvalidRequest([Violation("files.chunks", problem)])
        return self._place(file.path)

    def _place(self, path: str) -> Path:
        """Return where a file of the run is; a path that an agent sent leads nowhere else."""
        parts = path.split("/")
        is_inside = is_below(path)
        target = self._folder.path.joinpath(*parts) if is_inside else self._folder.path
        if (
            not is_inside
            or parts[0] in _INTERNALS
            # a link that an earlier attempt made may lead out
            or target.resolve() != self._folder.path.resolve().joinpath(*parts)
        ):
            problem = f"{path[:200]!r} is no path of a run's file"
            raise InvalidRequest([Violation("files.path", problem)])
        return target
