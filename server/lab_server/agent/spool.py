"""Ships an attempt's spool to the server, and completes that of a trainer that died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from lab_server.agent.link import Link, Refused
from lab_server.executors.last_lines import last_lines
from lab_server.executors.last_rows import take_over
from lab_server.executors.spool_bell import SpoolBell
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader, SpoolWriter
from lab_server.messages import events
from lab_server.model.agent import AttemptKey
from lab_server.processes.patience import patiently

_POLL_S = 0.01  # where the bell is not heard
_SHIP_BYTES = 512 << 10


class Shipper:
    """Sends whole records, each byte at its offset, from where the server's spool ends.

    It stays on this machine's disk until the server lets go of the attempt, so nothing that the server
    does not have is ever only on the way.
    """

    def __init__(self, link: Link, key: AttemptKey, folder: RunFolder) -> None:
        self._link = link
        self._key = key
        self._reader = SpoolReader(folder.spool(key.attempt))
        self._bell = SpoolBell(folder.spool(key.attempt), _POLL_S)
        self._last = asyncio.Event()

    def finish(self) -> None:
        """Have `run` end when all of the spool is shipped: it grows no more."""
        self._last.set()
        self._bell.ring()

    async def run(self) -> int:
        """Ship until all is shipped after `finish`, and return the spool's length.

        Raises:
            Refused: If the attempt is over, for the server.
        """
        return await patiently(self._run)

    async def _run(self) -> int:
        try:
            there = await self._there()
            while True:
                is_last = self._last.is_set()
                self._reader.read(_SHIP_BYTES)
                if there < self._reader.offset:
                    there = await self._ship(there)
                elif is_last and not self._reader.read(_SHIP_BYTES):
                    return there
                else:
                    await self._bell.wait()
        finally:
            self._reader.close()
            self._bell.close()

    async def _there(self) -> int:
        return await self._link.append(self._key, 0, b"")

    async def _ship(self, there: int) -> int:
        data = await asyncio.to_thread(self._bytes, there)
        try:
            return await self._link.append(self._key, there, data)
        except Refused:
            # over; or the server has less than it had: its disk lost the end of a file
            return await self._there()

    def _bytes(self, offset: int) -> bytes:
        fd = os.open(self._reader.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, min(_SHIP_BYTES, self._reader.offset - offset), offset)
        finally:
            os.close(fd)


def complete(folder: RunFolder, attempt: int) -> None:
    """Add what a trainer that died had measured and printed, and could not send; again is fine.

    Call it when no process of the attempt is left.

    Raises:
        OSError: If the spool cannot be written.
    """
    has_outcome = False
    with SpoolReader(folder.spool(attempt)) as spool:
        while records := spool.read():
            has_outcome = has_outcome or any(_is_outcome(record.payload) for record in records)
        end, is_damaged = spool.offset, spool.is_damaged
    if has_outcome or is_damaged:
        return
    take_over(folder, attempt, end)
    last = last_lines(folder, attempt)
    if last is None or not last.lines:
        return
    with contextlib.suppress(FileNotFoundError):
        os.truncate(folder.spool(attempt), last.sent.spool_end)  # a torn record
    # first: what it says holds, whether the lines follow or not
    last.sent.write(folder.log_position(attempt))
    with SpoolWriter(folder.spool(attempt)) as writer:
        told = events.encode_lines(attempt, time.time_ns(), last.lines)
        writer.append([event.payload for event in told])


def _is_outcome(payload: bytes) -> bool:
    event = events.recognise(payload)
    return event.kind == "state" and events.decode_state(payload).state.is_terminal
