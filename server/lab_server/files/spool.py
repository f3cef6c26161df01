"""The file between a trainer and the server: `spool/<attempt>`, records that survive a torn end.

A record is `<u32 length><u32 crc32 of the payload><payload>`, little endian. The trainer is the only
writer, the server the only reader; neither waits for the other.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct("<II")
HEADER_BYTES = _HEADER.size

MAX_RECORD_BYTES = 16 << 20
"""A longer record is not one of ours: its length is damaged. Events are far smaller (`lab_server.messages.events`)."""


def encode_record(payload: bytes) -> bytes:
    """Return the payload as it stands in the file."""
    if not 0 < len(payload) <= MAX_RECORD_BYTES:
        msg = f"a spool record has 1 to {MAX_RECORD_BYTES} bytes, got {len(payload)}"
        raise ValueError(msg)
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


class SpoolWriter:
    """Appends records; the trainer's side.

    A write that the disk refuses is undone, so that a full disk never leaves half a record before
    later ones.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "1"
        >>> with SpoolWriter(path) as spool:
        ...     spool.append([b"one", b"two"])
        22
        >>> [record.payload for record in SpoolReader(path).read()]
        [b'one', b'two']
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = os.fstat(self._fd).st_size

    @property
    def end(self) -> int:
        """The file's length."""
        return self._end

    def append(self, payloads: Iterable[bytes]) -> int:
        """Append records with one write and return the file's new end.

        Raises:
            OSError: If the disk takes no more; the file is then as it was before.
        """
        data = b"".join(map(encode_record, payloads))
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(data)
        return self._end

    def sync(self) -> None:
        """Return when all that was appended is on the disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Record(NamedTuple):
    """A whole record, and the offset in the file right after it. A tuple: a full spool has 11,000 to a piece."""

    payload: bytes
    end_offset: int


class SpoolReader:
    """Reads records from an offset on; the server's side.

    A file that is not there yet, that ends in half a record, or that is shorter than the offset (a
    power loss took its unwritten end) just has nothing to read.

    Attributes:
        offset: the end of the last record that `read` returned.
        is_damaged: the bytes at `offset` are no record and never will be one; nothing after them is
            readable.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.is_damaged = False
        self._fd = -1

    def read(self, max_bytes: int = 1 << 20) -> list[Record]:
        """Return the next whole records, at least one if there is one, about max_bytes of them."""
        if not self._open():
            return []
        # no larger than what there is: a megabyte of memory would be mapped and unmapped each time
        data = os.pread(
            self._fd, max(min(max_bytes, self.unread_bytes()), HEADER_BYTES), self.offset
        )
        if len(data) >= HEADER_BYTES:
            first_bytes = HEADER_BYTES + _HEADER.unpack_from(data)[0]
            if len(data) < first_bytes <= HEADER_BYTES + MAX_RECORD_BYTES:
                data += os.pread(self._fd, first_bytes - len(data), self.offset + len(data))
        return self._parse(data)

    def unread_bytes(self) -> int:
        """Return how many bytes of the file come after `offset`."""
        if not self._open():
            return 0
        return max(0, os.fstat(self._fd).st_size - self.offset)

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
        return True

    def _parse(self, data: bytes) -> list[Record]:
        records: list[Record] = []
        start, offset, last = 0, self.offset, len(data) - HEADER_BYTES
        header_at, crc32, add = _HEADER.unpack_from, zlib.crc32, records.append
        self.is_damaged = False
        while start <= last:
            length, crc = header_at(data, start)
            if not 0 < length <= MAX_RECORD_BYTES:
                self.is_damaged = True
                break
            begin = start + HEADER_BYTES
            end = begin + length
            if end > len(data):
                break
            payload = data[begin:end]
            if crc32(payload) != crc:
                self.is_damaged = True
                break
            start = end
            add(Record(payload, offset + start))
        self.offset += start
        return records

    def __enter__(self) -> SpoolReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
