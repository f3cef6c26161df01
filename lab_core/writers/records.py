"""Files of TFRecord: how TensorBoard's events lie on the disk.

https://www.tensorflow.org/tutorials/load_data/tfrecord: length (uint64), masked CRC32C of it, data,
masked CRC32C of it. TensorBoard's own writer takes the checksum byte by byte in Python; here many
records of one length are done at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected


def _make_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()
_TABLE_LIST = _TABLE.tolist()


def masked_crcs(records: Sequence[bytes]) -> list[int]:
    """Return the masked CRC32C of each record; all are of one length."""
    if len(records) < 8:
        return [_mask(_crc(r)) for r in records]
    data = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    crc = np.full(len(records), 0xFFFFFFFF, np.uint32)
    for octets in data.T:
        crc = _TABLE[(crc ^ octets) & 0xFF] ^ (crc >> 8)
    masked: list[int] = [_mask(c) for c in (crc ^ 0xFFFFFFFF).tolist()]
    return masked


def _crc(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _TABLE_LIST
    for octet in data:
        crc = table[(crc ^ octet) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _mask(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", _mask(_crc(packed)))


class RecordFile:
    """A file that records are appended to, whole ones only."""

    def __init__(self, path: Path) -> None:
        self._file: Any = open(path, "ab", buffering=0)  # noqa: SIM115
        self._end = self._file.seek(0, 2)

    def append(self, records: Sequence[bytes]) -> None:
        """Append records in one write. What fails half-way is cut off again."""
        by_length: dict[int, list[int]] = {}
        for i, record in enumerate(records):
            by_length.setdefault(len(record), []).append(i)
        crcs = [0] * len(records)
        for places in by_length.values():
            for i, crc in zip(places, masked_crcs([records[i] for i in places]), strict=True):
                crcs[i] = crc
        parts = []
        for record, crc in zip(records, crcs, strict=True):
            parts += [_header(len(record)), record, crc.to_bytes(4, "little")]
        data = b"".join(parts)
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
