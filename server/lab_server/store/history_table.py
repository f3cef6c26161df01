"""The statements of the histories: chunks of series, kept beside the log that they are folded from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Final, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, select

from lab_server.store import schema
from lab_server.store.protocol import History, NewSeriesChunk, SeriesChunk

T = TypeVar("T")

_READ_AT_ONCE: Final = 500  # a statement takes a bounded number of parameters

_runs, _histories, _chunks = schema.runs, schema.histories, schema.series_chunks


def read(
    connection: Connection, run_ids: Sequence[str], is_wanted: Callable[[str], bool]
) -> dict[str, History]:
    """Return which chunks the histories of some runs have, and up to where they hold the logs."""
    query = select(_histories.c.run_id, _histories.c.last_seq).where(
        _histories.c.run_id.in_(run_ids)
    )
    # before the chunks: another server may take a history further between two statements
    last_seqs = {row.run_id: row.last_seq for row in connection.execute(query)}
    of_runs = _chunks.c.run_id.in_(run_ids)
    names = connection.execute(select(_chunks.c.metric).where(of_runs).distinct()).scalars()
    found: dict[str, list[SeriesChunk]] = {run_id: [] for run_id in run_ids}
    for some in _pieces(sorted(filter(is_wanted, names))):
        chunks = (
            select(_chunks.c.run_id, *(_chunks.c[field.name] for field in fields(SeriesChunk)))
            .where(of_runs, _chunks.c.metric.in_(some))
            .order_by(_chunks.c.run_id, _chunks.c.metric, _chunks.c.first_step)
        )
        for run_id, *values in connection.execute(chunks).all():
            found[run_id].append(SeriesChunk(*values))
    return {
        # databases have orders of their own for texts
        run_id: History(last_seqs.get(run_id, 0), tuple(sorted(chunks, key=attrgetter("metric"))))
        for run_id, chunks in found.items()
    }


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
        connection.execute(
            _chunks.insert(), [{"run_id": run_id, **asdict(chunk)} for chunk in added]
        )
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


def _pieces(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    return (ids[start : start + _READ_AT_ONCE] for start in range(0, len(ids), _READ_AT_ONCE))
