"""Files of TFRecord: how TensorBoard's events lie on the disk.

https://www.tensorflow.org/tutorials/load_data/tfrecord: length (uint64), masked CRC32C of it, data,
masked CRC32C of it. TensorBoard's own writer takes the checksum byte by byte in Python; here many
records of one length are done at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]

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


def masked_crcs(octets_NL: Octets) -> npt.NDArray[np.uint32]:  # noqa: N803
    """Return the masked CRC32C of each row.

    A CRC is linear: the checksum is the XOR of what each octet adds, at its distance from the end.
    So one look-up does a block of every row, instead of one an octet.
    """
    num, length = octets_NL.shape
    crc_N: Any = np.full(num, 0xFFFFFFFF, np.uint32)  # noqa: N806
    for start in range(0, length, _BLOCK):
        block = octets_NL[:, start : start + _BLOCK].astype(np.intp)
        size = block.shape[1]
        for i in range(min(4, size)):  # the checksum so far is folded into the next four octets
            block[:, i] ^= (crc_N >> (8 * i)) & 0xFF
        rest_N = crc_N >> np.uint32(8 * size) if size < 4 else np.uint32(0)  # noqa: N806
        distances = np.arange(size - 1, -1, -1)
        added_N = np.bitwise_xor.reduce(_TABLES[distances, block], axis=1)  # noqa: N806
        crc_N = added_N ^ rest_N  # noqa: N806
    end_N = crc_N ^ np.uint32(0xFFFFFFFF)  # noqa: N806
    masked: npt.NDArray[np.uint32] = ((end_N >> 15) | (end_N << 17)) + np.uint32(0xA282EAD8)
    return masked


def framed(record: bytes | Octets) -> bytes:
    """Return a record, or the rows of [records, octets], as they lie in a file."""
    rows_NL = np.frombuffer(record, np.uint8)[None] if isinstance(record, bytes) else record  # noqa: N806
    num, length = rows_NL.shape
    out = np.empty((num, length + 16), np.uint8)
    out[:, :12] = _header(length)
    out[:, 12:-4] = rows_NL
    out[:, -4:] = masked_crcs(rows_NL).astype("<u4")[:, None].view(np.uint8)
    return out.tobytes()


@lru_cache(maxsize=4096)
def _header(length: int) -> Octets:
    packed = np.asarray([length], "<u8").view(np.uint8)
    crc = masked_crcs(packed[None]).astype("<u4").view(np.uint8)
    return np.concatenate([packed, crc])


class RecordFile:
    """A file that records are appended to, whole ones only."""

    def __init__(self, path: Path) -> None:
        self._file: Any = open(path, "ab", buffering=0)  # noqa: SIM115
        self._end = self._file.seek(0, 2)

    def append(self, records: Iterable[bytes | Octets]) -> None:
        """Append records, and rows of records, in one write. What fails half-way is cut off."""
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
