"""Takes what a dead trainer measured last from its tail into its spool, where all the rest is."""

from __future__ import annotations

import os

from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import HEADER_BYTES, SpoolReader, SpoolWriter
from lab_server.files.tail import Mark, Row, TailReader, columns_of
from lab_server.messages import events


def take_over(folder: RunFolder, attempt: int, spool_end: int) -> int:
    """Append the rows that the spool does not have, and return how many there were; again is fine.

    Call it when no process of the attempt is left, and the spool holds no outcome.

    Args:
        folder: of the run.
        attempt: the number of the attempt that has ended.
        spool_end: the end of the spool's last whole record; a torn one behind it is cut off.

    Raises:
        OSError: If the spool cannot be written.
    """
    try:
        tail = TailReader(folder.tail(attempt))
    except (FileNotFoundError, ValueError):
        return 0
    try:
        rows = _missing(tail, folder, attempt, spool_end)
        if not rows:
            return 0
        time_ns = int(rows[-1].time * 1e9)
        told = events.encode_metrics(attempt, time_ns, columns_of(rows))
        payloads = [event.payload for event in told]
        size = sum(HEADER_BYTES + len(payload) for payload in payloads)
        os.truncate(folder.spool(attempt), spool_end)
        folder.reserve(attempt).unlink(missing_ok=True)
        tail.mark(Mark(rows[-1].number, spool_end, spool_end + size))
        with SpoolWriter(folder.spool(attempt)) as spool:
            spool.append(payloads)
            spool.sync()
        return len(rows)
    finally:
        tail.close()


def _missing(tail: TailReader, folder: RunFolder, attempt: int, spool_end: int) -> list[Row]:
    newer, older = tail.marks()
    if newer.end <= spool_end:
        return tail.rows_after(newer.row)
    rows = tail.rows_after(older.row)
    if newer.begin < spool_end:
        # a big batch takes several records, and the trainer died between two of them
        there = _points_behind(folder, attempt, newer.begin)
        rows = [
            Row(row.number, row.time, tuple(p for p in row.points if p[:2] not in there))
            for row in rows
        ]
    return [row for row in rows if row.points]


def _points_behind(folder: RunFolder, attempt: int, offset: int) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    with SpoolReader(folder.spool(attempt), offset) as spool:
        while records := spool.read():
            for record in records:
                metrics = events.decode(record.payload).metrics
                for column in metrics.columns:
                    rows = column.rows or range(len(column.values))
                    found.update((column.name, metrics.steps[row]) for row in rows)
    return found
