"""TFRecord files, the format of TensorBoard's event files.

https://www.tensorflow.org/tutorials/load_data/tfrecord: length (uint64), masked CRC32C of it, data,
masked CRC32C of it. TensorBoard's own writer computes the checksum byte by byte in Python.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
CRC_BYTES = _CRC.size


def masked_crc(data: bytes) -> bytes:
    """Return the masked CRC32C of some bytes, encoded as in a file."""
    crc = google_crc32c.value(data)
    return _CRC.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def masked_crcs(records: bytes, size: int, start: int) -> npt.NDArray[np.uint32]:
    """Return the masked CRC32C of each of many records in a row, all of one size.

    Args:
        records: as in a file, their own checksums with any value.
        size: of a record in the file.
        start: where its data begins in it; it ends before the checksum.
    """
    import numpy as np

    crc, stop = google_crc32c.value, size - CRC_BYTES
    found = np.asarray(
        [crc(records[at + start : at + stop]) for at in range(0, len(records), size)], np.uint32
    )
    masked: npt.NDArray[np.uint32] = (found >> np.uint32(15) | found << np.uint32(17)) + np.uint32(
        0xA282EAD8
    )
    return masked


def framed(record: bytes) -> bytes:
    """Return a record encoded as in a file."""
    return b"".join((header(len(record)), record, masked_crc(record)))


@lru_cache(maxsize=4096)
def header(length: int) -> bytes:
    """Return what stands before a record of a length."""
    packed = _LENGTH.pack(length)
    return packed + masked_crc(packed)


class RecordFile:
    """A file to which only complete records are appended."""

    def __init__(self, path: Path) -> None:
        self._file: Any = open(path, "ab", buffering=0)  # noqa: SIM115
        self._end = self._file.seek(0, 2)

    def append(self, data: bytes) -> None:
        """Append framed records in one write. If it fails, the partial write is removed."""
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
