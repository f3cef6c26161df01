"""Files as they travel: one after the other, in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from lab_server.files import artifacts


@dataclass(frozen=True, slots=True)
class Piece:
    """The next bytes.

    Attributes:
        path: of the file that begins, below its folder and with forward slashes; "" where the last goes on.
        size_bytes: of the whole file, where it begins.
        offset: where the bytes begin in the file, where it begins.
        sha256: of the whole file, in hexadecimal, where it ends; else "".
    """

    data: bytes
    path: str = ""
    size_bytes: int = 0
    offset: int = 0
    sha256: str = ""


async def read_pieces(folder: Path, paths: Sequence[str], offset: int = 0) -> AsyncGenerator[Piece]:
    """Yield files below a run's folder.

    Args:
        folder: the run's.
        paths: of `list_artifacts`.
        offset: where to begin in the first of them.

    Raises:
        InvalidRequest: If the offset is beyond the file's end.
        InvalidState: If a file becomes shorter meanwhile.
        NotFound: If there is none of a path.
    """
    for path in paths:
        begins = path
        async with aclosing(artifacts.read_chunks(folder, path, offset)) as chunks:
            async for chunk in chunks:
                yield Piece(chunk.data, begins, chunk.size_bytes, offset, chunk.sha256)
                begins, offset = "", 0
