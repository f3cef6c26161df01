"""Whether a source file has changed since it was read: told by its content, and cheaply by its times."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from lab_server.descriptors import raise_if_blind

_SETTLED_NS = 100_000_000  # a clock of a file system may tick as rarely as every 10 ms


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file, or the names in a folder, as they were when they were read.

    Attributes:
        sha256: of the content in hexadecimal, "" for what could not be read.
        times: what the file system said: inode, size, mtime and ctime; empty if it may change its
            content and say the same.
    """

    sha256: str
    times: tuple[int, ...]

    def to_json(self) -> list[object]:
        """Return the stamp as plain data."""
        return list(astuple(self))

    @classmethod
    def from_json(cls, data: Sequence[object]) -> Stamp:
        """Return the stamp that `to_json` made plain."""
        sha256, times = data
        assert isinstance(times, Sequence)
        return cls(str(sha256), tuple(times))


def read(path: str | Path) -> tuple[bytes, Stamp]:
    """Return the content of a file with its stamp.

    Raises:
        OSError: If it cannot be read.
    """
    before = _times(path)
    data = Path(path).read_bytes()
    return data, Stamp(hashlib.sha256(data).hexdigest(), _trusted(path, before))


def stamp(path: str | Path) -> Stamp:
    """Return the stamp of a file, or of the names in a folder, as it is now.

    Raises:
        OSError: If there is no file descriptor to read it with.
    """
    try:
        return _stamp_of_names(path) if os.path.isdir(path) else read(path)[1]
    except OSError as error:
        raise_if_blind(error)
        return Stamp("", ())


def is_unchanged(path: str | Path, known: Stamp) -> bool:
    """Whether the file system says what it said; where it does, the content is the same, too."""
    try:
        return bool(known.times) and _times(path) == known.times
    except OSError:
        return False


def _stamp_of_names(folder: str | Path) -> Stamp:
    before = _times(folder)
    names = "\n".join(sorted(os.listdir(folder))).encode(errors="surrogateescape")
    return Stamp(hashlib.sha256(names).hexdigest(), _trusted(folder, before))


def _times(path: str | Path) -> tuple[int, ...]:
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):  # its size and mtime change with its names only
        return found.st_ino, found.st_size, found.st_mtime_ns, 0
    # ctime: who sets a file's mtime back cannot set this one
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _trusted(path: str | Path, before: tuple[int, ...]) -> tuple[int, ...]:
    """Return the times, () for a file that was just changed: a next change may get the same ones."""
    _, _, mtime_ns, ctime_ns = before
    is_settled = time.time_ns() - max(mtime_ns, ctime_ns) > _SETTLED_NS
    return before if is_settled and _times(path) == before else ()
