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
_BLOCK = 256


def _make_tables() -> npt.NDArray[np.uint32]:
    """Return [_BLOCK, 256]: what an octet, so many octets before the end, adds to the checksum."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    tables = [table.astype(np.uint32)]
    for _ in range(_BLOCK - 1):
        tables.append(tables[0][tables[-1] & 0xFF] ^ (tables[-1] >> 8))
    return np.stack(tables)


_TABLES = _make_tables()


def masked_crcs(records: Sequence[bytes]) -> list[int]:
    """Return the masked CRC32C of each record; all are of one length.

    A CRC is linear: the checksum is the XOR of what each octet adds, at its distance from the end.
    So one look-up does a block of every record, instead of one an octet.
    """
    num, length = len(records), len(records[0])
    octets_NL = np.frombuffer(b"".join(records), np.uint8).reshape(num, length)  # noqa: N806
    crc_N = np.full(num, 0xFFFFFFFF, np.uint32)  # noqa: N806
    for start in range(0, length, _BLOCK):
        block = octets_NL[:, start : start + _BLOCK].astype(np.intp)
        size = block.shape[1]
        for i in range(min(4, size)):  # the checksum so far is folded into the next four octets
            block[:, i] ^= (crc_N >> (8 * i)) & 0xFF
        rest_N = crc_N >> (8 * size) if size < 4 else np.uint32(0)  # noqa: N806
        distances = np.arange(size - 1, -1, -1)
        crc_N = np.bitwise_xor.reduce(_TABLES[distances, block], axis=1) ^ rest_N  # noqa: N806
    crc_N = ~crc_N  # noqa: N806
    masked: list[int] = (((crc_N >> 15) | (crc_N << 17)) + np.uint32(0xA282EAD8)).tolist()
    return masked


@lru_cache(maxsize=4096)
def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked_crcs([packed])[0])


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
