"""Files that arrive in pieces: each is written beside its place, and gets it when it is whole.

What came of a file that was cut off stays beside its place, and the next pieces can go on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from lab_server.errors import DamagedFile
from lab_server.files.pieces import Piece

_READ_BYTES: Final = 1 << 20


class ArrivingFile:
    """Takes the bytes of one file, which is there once `finish` has found them to be what was announced.

    Args:
        place: where it is to be; its folder is made.
        size_bytes: how many there are to be.
        offset: how many came before and are not sent again.
        is_synced: whether it must still be there after a power cut.

    Raises:
        DamagedFile: If fewer came before.
        OSError: If the disk takes no more.
    """

    def __init__(
        self, place: Path, size_bytes: int, *, offset: int = 0, is_synced: bool = True
    ) -> None:
        self.name = place.name
        self._place, self._draft = place, _draft_of(place)
        self._is_synced = is_synced
        self._hash = hashlib.sha256()
        self.num_missing = size_bytes - offset
        place.parent.mkdir(parents=True, exist_ok=True)
        if offset > num_arrived(place):
            raise DamagedFile(self.name, f"lacks its first {offset} bytes")
        self._file = self._draft.open("r+b" if offset else "w+b")
        self._file.truncate(offset)
        while data := self._file.read(_READ_BYTES):
            self._hash.update(data)

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            DamagedFile: If they are more than were announced.
            OSError: If the disk takes no more.
        """
        if len(data) > self.num_missing:
            raise DamagedFile(self.name, "has more bytes than were announced")
        self._file.write(data)
        self._hash.update(data)
        self.num_missing -= len(data)

    def finish(self, sha256: str) -> None:
        """Put the file in its place, in that of an older one if need be.

        Raises:
            DamagedFile: If it is not the file that was announced; what came is dropped.
            OSError: If the disk takes no more.
        """
        if self.num_missing or self._hash.hexdigest() != sha256:
            self.close()
            self._draft.unlink()
            problem = "has another content than its SHA-256 says"
            if self.num_missing:
                problem = f"is not whole: {self.num_missing} bytes are missing"
            raise DamagedFile(self.name, problem)
        self._file.flush()
        if self._is_synced:
            os.fsync(self._file.fileno())
        self.close()
        self._draft.replace(self._place)
        if self._is_synced:
            sync_folder(self._place.parent)

    def close(self) -> None:
        """Take no more for now; what came stays."""
        self._file.close()


def num_arrived(place: Path) -> int:
    """Return how many bytes there are of a file that is not whole."""
    try:
        return _draft_of(place).stat().st_size
    except FileNotFoundError:
        return 0


async def receive(pieces: AsyncIterator[Piece], folder: Path, *, is_synced: bool) -> None:
    """Put files that come one after the other below a folder; of one that is cut off, what came stays.

    Raises:
        DamagedFile: If what comes is no file below the folder, or not what was announced.
        OSError: If the disk takes no more.
    """
    file: ArrivingFile | None = None
    try:
        async for piece in pieces:
            if piece.path:
                _check_whole(file)
                file = await asyncio.to_thread(
                    ArrivingFile,
                    place_in(folder, piece.path),
                    piece.size_bytes,
                    offset=piece.offset,
                    is_synced=is_synced,
                )
            if file is None:
                raise DamagedFile("", "is the name of bytes that came")
            await asyncio.to_thread(file.write, piece.data)
            if piece.sha256:
                await asyncio.to_thread(file.finish, piece.sha256)
                file = None
        _check_whole(file)
    finally:
        if file is not None:
            file.close()


def place_in(folder: Path, path: str) -> Path:
    """Return where a file is to be.

    Args:
        folder: below which it must be.
        path: with forward slashes.

    Raises:
        DamagedFile: If the path leads elsewhere.
    """
    if not is_below(path):
        raise DamagedFile(path[:200], "is no path of a run's file")
    return folder.joinpath(*path.split("/"))


def is_below(path: str) -> bool:
    """Whether a path that somebody sent leads to a file below the folder that it is joined to."""
    return not any(part in ("", ".", "..") or "\0" in part for part in path.split("/"))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_whole(file: ArrivingFile | None) -> None:
    if file is not None:
        raise DamagedFile(file.name, "ended before it was whole")


def _draft_of(place: Path) -> Path:
    # not with the name in it: that may be as long as a name can be
    return place.with_name(f".{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]}.part")
