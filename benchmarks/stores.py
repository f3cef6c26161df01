"""Stores that are filled with the logs of runs: events as a trainer writes them, and copies of a whole run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path

from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run
from lab_server.store import SqlStore
from lab_server.watch.history_writer import MAX_BEHIND, HistoryWriter

NUM_METRICS = 2
STEPS_PER_S = 60
_MAX_LIVE_EVENTS = 64  # of more at once the store makes blocks

# gives all other runs what the first one has; `number` counts them from 1
_COPY = """
CREATE TEMP TABLE numbered AS
  SELECT id, row_number() OVER (ORDER BY id) AS number FROM runs WHERE id != :first;
CREATE TEMP TABLE span AS SELECT max(last) + 1 AS span FROM
  (SELECT max(position) AS last FROM events UNION SELECT max(last_position) FROM event_blocks);
INSERT INTO events SELECT position + number * span, id, seq, kind, payload
  FROM events, numbered, span WHERE run_id = :first;
INSERT INTO event_blocks SELECT first_position + number * span, last_position + number * span, id,
  first_seq, last_seq, kinds, data FROM event_blocks, numbered, span WHERE run_id = :first;
INSERT INTO series_chunks (run_id, metric, first_step, last_step, num_points, summary, points)
  SELECT numbered.id, metric, first_step, last_step, num_points, summary, points
  FROM numbered, series_chunks WHERE run_id = :first ORDER BY number;
INSERT INTO histories SELECT numbered.id, last_seq FROM histories, numbered WHERE run_id = :first;
UPDATE runs SET last_seq = (SELECT last_seq FROM runs WHERE id = :first);
UPDATE store_meta SET value = (SELECT span * (SELECT count(*) + 1 FROM numbered) FROM span)
  WHERE name = 'last_position';
"""


@dataclasses.dataclass
class Column:
    """A column as the tracker gives it to the spool writer."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


def make_events(num_points: int, steps_an_event: int) -> list[EncodedEvent]:
    """Return the events of a run that measures 2 metrics at 60 steps a second; values are float32, as torch's."""
    rng = random.Random(1)
    found = []
    now_ns = 1_763_000_000_000_000_000
    for first in range(0, num_points // NUM_METRICS, steps_an_event):
        steps = range(first, min(first + steps_an_event, num_points // NUM_METRICS))
        now_ns += round(steps_an_event / STEPS_PER_S * 1e9) + rng.randrange(10**6)
        columns = [
            Column(name, steps, [_float32(math.exp(-s / 1e5) + rng.gauss(0, 0.1)) for s in steps])
            for name in ("train_loss", "accuracy")
        ]
        found += events.encode_metrics(1, now_ns, columns)
    return found


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


async def append(store: SqlStore, run: Run, new: Sequence[EncodedEvent], at_once: int) -> None:
    """Commit events, so many at once: many as a follower that is behind does, few as one that is not."""
    is_live = at_once < _MAX_LIVE_EVENTS
    for start in range(0, len(new), at_once):
        piece = new[start : start + at_once]
        run = dataclasses.replace(run, last_seq=run.last_seq + len(piece))
        await store.commit(run, piece)
        if is_live and (start + at_once) // MAX_BEHIND > start // MAX_BEHIND:
            await HistoryWriter(store).write(run.id)


def copy_to_all(database: Path, first_id: str) -> None:
    """Give every run of a closed store the events and the history of one."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for statement in _COPY.split(";"):
            connection.execute(statement, {"first": first_id} if ":first" in statement else {})


def forget(folder: Path) -> None:
    """Let the system forget what it has read of the files in a folder, so that the next read is from the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())
