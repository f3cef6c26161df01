"""TFRecord files, the format of TensorBoard's event files.

https://www.tensorflow.org/tutorials/load_data/tfrecord: length (uint64), masked CRC32C of it, data,
masked CRC32C of it. TensorBoard's own writer computes the checksum byte by byte in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")


def masked_crc(data: bytes) -> bytes:
    """Return the masked CRC32C of some bytes, encoded as in a file."""
    crc = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(record: bytes) -> bytes:
    """Return a record encoded as in a file."""
    return b"".join((_header(len(record)), record, masked_crc(record)))


@lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    packed = _LENGTH.pack(length)
    return packed + masked_crc(packed)


class RecordFile:
    """A file to which only complete records are appended."""

    def __init__(self, path: Path) -> None:
        self._file: Any = open(path, "ab", buffering=0)  # noqa: SIM115
        self._end = self._file.seek(0, 2)

    def append(self, records: Iterable[bytes]) -> None:
        """Append records in one write. If it fails, the partial write is removed."""
        data = b"".join(map(framed, records))
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            # TensorBoard reads nothing after a torn record.
            self._file.truncate(self._end)
            self._file.seek(self._end)
            raise
        self._end += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
