"""Pages of runs, by keyset: the next page begins after the last run of the one before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Row,
    Select,
    and_,
    false,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.types import TypeEngine

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest
from lab_server.store.portable.dialects import AnyText, contains, has_element, unindexed
from lab_server.store.protocol import RunQuery
from lab_server.store.schema import runs
from lab_server.store.where import Asked
from lab_server.where import CREATE_TIME

_KEY = "sort_key_"
_NUM_ALL = "num_all"
_TYPES: dict[type, TypeEngine[Any]] = {int: BigInteger(), float: Double(), str: AnyText()}


@dataclass(frozen=True, slots=True)
class PageQuery:
    """The statements of a page.

    Attributes:
        page: the page and one run more, with what they are ordered by.
        count: how many runs there are on all pages; None when it is not wanted, or each row of the page
            says it.
    """

    page: Select[Any]
    count: Select[Any] | None

    def num_all(self, connection: Connection, rows: Sequence[Row[Any]]) -> int | None:
        """Return how many runs there are on all pages, if that is wanted, once the page's rows are read."""
        if self.count is not None:
            return connection.execute(self.count).scalar()
        if _NUM_ALL not in self.page.selected_columns:
            return None
        return rows[0]._mapping[_NUM_ALL] if rows else 0


def page_query(query: RunQuery) -> PageQuery:
    """Return the statements for a page.

    Raises:
        InvalidRequest: If the token is invalid.
    """
    place = _Place.of(query.after) if query.after else None
    # all pages of a list are of one moment, as far as durations go
    now_ns = query.now_ns if place is None else place.now_ns
    asked = Asked(now_ns)
    filters = _filters(query, asked)
    keys = asked.sort_keys(query.order_by)
    labels = [key.label(f"{_KEY}{index}") for index, key in enumerate(keys)]
    # ids and keys are sorted alone: rows, with all their JSON, are read for the page only
    # a walk along the ids' own index would read every row
    run_id = runs.c.id if query.order_by == CREATE_TIME else unindexed(runs.c.id).label("id")
    found = select(run_id, *labels).select_from(asked.source).where(*filters)
    count = None
    if place is not None:
        found = found.where(place.is_before(keys, query.is_descending))
    if query.is_counted and filters and place is None:
        found = _counted(found)
    elif query.is_counted:
        of_all = Asked(query.now_ns)
        all_filters = _filters(query, of_all)
        count = select(func.count()).select_from(of_all.source).where(*all_filters)
    columns = found.selected_columns
    of_found = [columns[label.name] for label in labels]
    page = found.order_by(*_order(query, of_found, columns.id)).limit(query.limit + 1).subquery()
    of_page = [page.c[label.name] for label in labels]
    now = literal(now_ns, BigInteger()).label("now_ns")
    beside = [column for column in page.c if column.name != "id"]
    statement = select(*_columns(query), *beside, now).join(page, page.c.id == runs.c.id)
    return PageQuery(statement.order_by(*_order(query, of_page, page.c.id)), count)


def _counted(found: Select[Any]) -> Select[Any]:
    """Return the statement for the same runs, and how many they are: the filters are tried once for both."""
    # named twice, so that databases keep what they have found
    cte = found.cte("found")
    num_all = select(func.count()).select_from(cte).scalar_subquery()
    return select(*cte.c, num_all.label(_NUM_ALL))


def _columns(query: RunQuery) -> list[ColumnElement[Any]]:
    return [
        literal("{}").label(column.name) if _is_left_out(column.name, query) else column
        for column in runs.c
    ]


def _is_left_out(column: str, query: RunQuery) -> bool:
    if query.metrics is None:
        return False
    return column == "extremes" or (column == "metrics" and not query.metrics)


BRIEFS: Final = select(*_columns(RunQuery(metrics=frozenset()))).where(
    runs.c.id.in_(sa.bindparam("ids", expanding=True))
)
"""The statement: runs by their ids, without their last values."""


def _order(
    query: RunQuery, keys: Sequence[ColumnElement[Any]], run_id: ColumnElement[Any]
) -> list[ColumnElement[Any]]:
    if query.is_descending:
        return [*(key.desc().nulls_last() for key in keys), run_id.desc()]
    return [*(key.nulls_last() for key in keys), run_id]


def token_of(row: Any) -> str:
    """Return the token that goes on after a row of the page."""
    values = [value for name, value in row._mapping.items() if name.startswith(_KEY)]
    return json.dumps([values, row.id, row.now_ns])


def _filters(query: RunQuery, asked: Asked) -> list[ColumnElement[bool]]:
    filters: list[ColumnElement[bool]] = []
    if query.experiment:
        filters.append(runs.c.experiment == query.experiment)
    if query.states:
        filters.append(unindexed(runs.c.state).in_(state.value for state in query.states))
    if query.owner is not None:
        filters.append(runs.c.owner == query.owner)
    if query.name_contains:
        filters.append(contains(runs.c.name, query.name_contains))
    filters += [has_element(runs.c.tags, tag) for tag in sorted(query.tags)]
    if query.where is not None:
        filters.append(asked.holds(query.where))
    return filters


@dataclass(frozen=True, slots=True)
class _Place:
    """The last run of a page.

    Attributes:
        values: what it was ordered by, one after the other.
        now_ns: when its list was begun.
    """

    values: Sequence[int | float | str | None]
    run_id: str
    now_ns: int

    @classmethod
    def of(cls, token: str) -> _Place:
        try:
            values, run_id, now_ns = json.loads(token)
            is_known = isinstance(values, list) and isinstance(run_id, str)
            is_known = is_known and isinstance(now_ns, int)
            is_known = is_known and all(v is None or type(v) in _TYPES for v in values)
        except (ValueError, TypeError):
            is_known = False
        if not is_known:
            message = "the page token is not valid; start again without one"
            raise InvalidRequest([Violation("page_token", message)])
        return cls(values, run_id, now_ns)

    def is_before(
        self, keys: Sequence[ColumnElement[Any]], is_descending: bool
    ) -> ColumnElement[bool]:
        """Return the clause that is true for the runs that come later; NULL comes last."""
        is_later = runs.c.id < self.run_id if is_descending else runs.c.id > self.run_id
        for key, value in reversed(list(zip(keys, self.values, strict=False))):
            if value is None:
                is_equal: ColumnElement[bool] = key.is_(None)
                is_behind: ColumnElement[bool] = false()
            else:
                # a text must be written as the column's are, which hold no NUL on PostgreSQL
                bound = literal(value, _TYPES[type(value)])
                is_equal = key == bound
                is_behind = or_(key < bound if is_descending else key > bound, key.is_(None))
            is_later = or_(is_behind, and_(is_equal, is_later))
        return sa.func.coalesce(is_later, false())
