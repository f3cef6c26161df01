"""The statements of the event logs: events lie in rows of their own, or in blocks of many.

A log may be any mixture of both; readers get the same events wherever they lie. Reading takes two
statements, so it wants a transaction in which both see the same.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, CursorResult, select

from lab_server.store import blocks, schema
from lab_server.store.blocks import Block
from lab_server.store.portable.prepared import Prepared
from lab_server.store.protocol import StoredEvent

_MIN_NEW_BLOCK: Final = 64
"""So many events at once, from a spool that is behind, are written as blocks; fewer as rows."""

_events, _blocks = schema.events, schema.event_blocks
_EVENT_COLUMNS: Final = [_events.c[name] for name in StoredEvent._fields]
_BLOCK_COLUMNS: Final = [_blocks.c[each.name] for each in fields(Block)]
_ROW_BY_ROW: Final = {"stream_results": True, "max_row_buffer": 100}
_INSERT_EVENT: Final = Prepared(_events.insert())
_INSERT_BLOCKS: Final = _blocks.insert()


def insert(connection: Connection, logs: Sequence[Sequence[StoredEvent]]) -> None:
    """Add events of some runs, each of which come after all that there are of their run."""
    many = [events for events in logs if len(events) >= _MIN_NEW_BLOCK]
    new_blocks = [blocks.pack(group) for events in many for group in blocks.groups(events)]
    if new_blocks:
        connection.execute(_INSERT_BLOCKS, [asdict(block) for block in new_blocks])
    few = [event._asdict() for events in logs if len(events) < _MIN_NEW_BLOCK for event in events]
    _INSERT_EVENT.execute_each(connection, few)


def read_run(
    connection: Connection, run_id: str, after_seq: int, max_bytes: int, kinds: frozenset[str]
) -> tuple[StoredEvent, ...]:
    """Return events of a run with a larger seq, in order, at least one if there is one."""
    in_blocks = (
        select(*_BLOCK_COLUMNS)
        .where(_blocks.c.run_id == run_id, _blocks.c.last_seq > after_seq)
        .order_by(_blocks.c.last_seq)
    )
    in_rows = (
        select(*_EVENT_COLUMNS)
        .where(_events.c.run_id == run_id, _events.c.seq > after_seq)
        .order_by(_events.c.seq)
    )
    with (
        connection.execute(_with_kinds(in_blocks, kinds), execution_options=_ROW_BY_ROW) as found,
        connection.execute(_of_kinds(in_rows, kinds), execution_options=_ROW_BY_ROW) as rows,
    ):
        merged = _in_order(
            _each_block(found),
            _each_event(rows),
            first_of=attrgetter("first_seq"),
            key_of=attrgetter("seq"),
            events_of=lambda block: blocks.unpack(block, after_seq),
            is_wanted=lambda event: event.seq > after_seq and (not kinds or event.kind in kinds),
        )
        return _up_to(merged, max_bytes)


def read_across(
    connection: Connection, after_position: int, max_bytes: int, kinds: frozenset[str]
) -> tuple[StoredEvent, ...]:
    """Return events of all runs with a larger position, in order, at least one if there is one."""
    in_blocks = (
        select(*_BLOCK_COLUMNS)
        .where(
            # what began before has ended before, too: so the index tells where to begin
            _blocks.c.first_position > after_position - blocks.MAX_SPAN,
            _blocks.c.last_position > after_position,
        )
        .order_by(_blocks.c.first_position)
    )
    in_rows = (
        select(*_EVENT_COLUMNS)
        .where(_events.c.position > after_position)
        .order_by(_events.c.position)
    )
    with (
        connection.execute(_with_kinds(in_blocks, kinds), execution_options=_ROW_BY_ROW) as found,
        connection.execute(_of_kinds(in_rows, kinds), execution_options=_ROW_BY_ROW) as rows,
    ):
        merged = _in_order(
            _each_block(found),
            _each_event(rows),
            first_of=attrgetter("first_position"),
            key_of=attrgetter("position"),
            events_of=blocks.unpack,
            is_wanted=lambda event: (
                event.position > after_position and (not kinds or event.kind in kinds)
            ),
        )
        return _up_to(merged, max_bytes)


def delete_some(connection: Connection, run_id: str, num: int) -> bool:
    """Delete up to so many rows and blocks of a run's log; True when there may be more."""
    num_deleted = 0
    for table, key in ((_blocks, _blocks.c.first_position), (_events, _events.c.position)):
        piece = select(key).where(table.c.run_id == run_id).limit(num)
        num_deleted += connection.execute(table.delete().where(key.in_(piece))).rowcount
    return num_deleted >= num


def first_rows(connection: Connection, run_id: str, last_seq: int) -> Sequence[StoredEvent]:
    """Return a run's first events, up to a seq, that lie in rows and fit into a block."""
    query = (
        select(*_EVENT_COLUMNS)
        .where(_events.c.run_id == run_id, _events.c.seq <= last_seq)
        .order_by(_events.c.seq)
    )
    with connection.execute(query, execution_options=_ROW_BY_ROW) as rows:
        return next(blocks.groups(_each_event(rows)), ())


def replace_rows(connection: Connection, block: Block) -> bool:
    """Put a block in the place of its events' rows; False when these are not all there any more."""
    is_in_block = (_events.c.run_id == block.run_id) & _events.c.seq.between(
        block.first_seq, block.last_seq
    )
    num_rows = connection.execute(select(sa.func.count()).where(is_in_block)).scalar()
    if num_rows != block.last_seq - block.first_seq + 1:
        return False
    connection.execute(_events.delete().where(is_in_block))
    connection.execute(_INSERT_BLOCKS, asdict(block))
    return True


def _with_kinds(query: sa.Select[Any], kinds: frozenset[str]) -> sa.Select[Any]:
    mask = blocks.kinds_mask(kinds)
    return query.where(_blocks.c.kinds.bitwise_and(mask) != 0) if kinds else query


def _of_kinds(query: sa.Select[Any], kinds: frozenset[str]) -> sa.Select[Any]:
    return query.where(_events.c.kind.in_(kinds)) if kinds else query


# fetchone, not iteration: that reads all rows first. The databases find them one by one (PostgreSQL on a
# cursor of its own side), so no limit is needed


def _each_event(rows: CursorResult[Any]) -> Iterator[StoredEvent]:
    while (row := rows.fetchone()) is not None:
        yield StoredEvent(*tuple(row))


def _each_block(rows: CursorResult[Any]) -> Iterator[Block]:
    while (row := rows.fetchone()) is not None:
        yield Block(*tuple(row))


def _in_order(
    waiting: Iterator[Block],
    rows: Iterator[StoredEvent],
    *,
    first_of: Callable[[Block], int],
    key_of: Callable[[StoredEvent], int],
    events_of: Callable[[Block], Iterator[StoredEvent]],
    is_wanted: Callable[[StoredEvent], bool],
) -> Iterator[StoredEvent]:
    """Merge rows with the events of blocks, each of which is unpacked when its turn comes.

    Args:
        waiting: blocks, in the order of their first keys.
        rows: events that stand in rows of their own, in order.
        first_of: gives a block's first key.
        key_of: gives an event's key.
        events_of: gives a block's events.
        is_wanted: tells of a block's event whether to give it; of the rows all are given.
    """
    # the next event of each source, by key; the number tells sources apart
    heap: list[tuple[int, int, StoredEvent, Iterator[StoredEvent]]] = []
    numbers = itertools.count()

    def add(source: Iterator[StoredEvent]) -> None:
        for event in source:
            heapq.heappush(heap, (key_of(event), next(numbers), event, source))
            return

    add(rows)
    block = next(waiting, None)
    while heap or block is not None:
        if block is not None and (not heap or first_of(block) < heap[0][0]):
            add(filter(is_wanted, events_of(block)))
            block = next(waiting, None)
            continue
        _, number, event, source = heap[0]
        yield event
        following = next(source, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (key_of(following), number, following, source))


def _up_to(events: Iterator[StoredEvent], max_bytes: int) -> tuple[StoredEvent, ...]:
    found: list[StoredEvent] = []
    num_bytes = 0
    for event in events:
        num_bytes += len(event.payload)
        if found and num_bytes > max_bytes:
            break
        found.append(event)
    return tuple(found)
