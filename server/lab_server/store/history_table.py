"""The statements of the histories: chunks of series, kept beside the log that they are folded from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, select

from lab_server.store import schema
from lab_server.store.protocol import History, NewSeriesChunk, SeriesChunk

_READ_AT_ONCE: Final = 500  # a statement takes a bounded number of parameters

_runs, _histories, _chunks = schema.runs, schema.histories, schema.series_chunks


def read(connection: Connection, run_id: str, is_wanted: Callable[[str], bool]) -> History:
    """Return which chunks a run's history has, and up to where they hold the log."""
    seq = connection.execute(
        select(_histories.c.last_seq).where(_histories.c.run_id == run_id)
    ).scalar()
    names = connection.execute(
        select(_chunks.c.metric).where(_chunks.c.run_id == run_id).distinct()
    ).scalars()
    found: list[SeriesChunk] = []
    for metric in sorted(filter(is_wanted, names)):
        query = (
            select(_chunks.c.id, _chunks.c.first_step, _chunks.c.last_step, _chunks.c.num_points)
            .where(_chunks.c.run_id == run_id, _chunks.c.metric == metric)
            .order_by(_chunks.c.first_step)
        )
        found += [
            SeriesChunk(row.id, metric, row.first_step, row.last_step, row.num_points)
            for row in connection.execute(query)
        ]
    return History(seq or 0, tuple(found))


def read_data(
    connection: Connection, ids: Sequence[int], what: Literal["summary", "points"]
) -> dict[int, bytes]:
    """Return the summaries or the points of chunks; without those that are gone."""
    found: dict[int, bytes] = {}
    for some in _pieces(ids):
        query = select(_chunks.c.id, _chunks.c[what]).where(_chunks.c.id.in_(some))
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def write(
    connection: Connection,
    run_id: str,
    after_seq: int,
    last_seq: int,
    removed: Sequence[int],
    added: Sequence[NewSeriesChunk],
) -> bool:
    """Take a history from one seq to another; False, and nothing is written, when it is not there."""
    is_at = connection.execute(
        select(_histories.c.last_seq).where(_histories.c.run_id == run_id)
    ).scalar()
    is_run = connection.execute(select(_runs.c.id).where(_runs.c.id == run_id)).scalar()
    if (is_at or 0) != after_seq or is_run is None:
        return False
    connection.execute(_histories.delete().where(_histories.c.run_id == run_id))
    connection.execute(_histories.insert(), {"run_id": run_id, "last_seq": last_seq})
    for some in _pieces(removed):
        connection.execute(_chunks.delete().where(_chunks.c.id.in_(some)))
    if added:
        connection.execute(_chunks.insert(), [_row(run_id, chunk) for chunk in added])
    return True


def drop(connection: Connection, run_id: str) -> None:
    """Forget a run's history."""
    connection.execute(_histories.delete().where(_histories.c.run_id == run_id))
    connection.execute(_chunks.delete().where(_chunks.c.run_id == run_id))


def behind(connection: Connection) -> tuple[str, ...]:
    """Return the ids of the runs whose history does not reach to the end of their log."""
    query = (
        select(_runs.c.id)
        .outerjoin(_histories, _histories.c.run_id == _runs.c.id)
        .where(_runs.c.last_seq > sa.func.coalesce(_histories.c.last_seq, 0))
        .order_by(_runs.c.id)
    )
    return tuple(connection.execute(query).scalars())


def _pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (ids[start : start + _READ_AT_ONCE] for start in range(0, len(ids), _READ_AT_ONCE))


def _row(run_id: str, chunk: NewSeriesChunk) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "metric": chunk.metric,
        "first_step": chunk.first_step,
        "last_step": chunk.last_step,
        "num_points": chunk.num_points,
        "summary": chunk.summary,
        "points": chunk.points,
    }
