"""Pages of runs, by keyset: the next page begins after the last run of the one before."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, or_, select

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest
from lab_server.model.run import RunState
from lab_server.store.dialects import contains, has_element, number_of
from lab_server.store.protocol import RunQuery
from lab_server.store.schema import runs


def page_query(query: RunQuery) -> Select[Any]:
    """Return the statement: a page and one run more, with the order's value as `sort_key`.

    Raises:
        InvalidRequest: If the order is unknown or the token invalid.
    """
    key = _sort_key(query.order_by).label("sort_key")
    statement = select(runs, key).where(*_filters(query))
    if query.after:
        statement = statement.where(_is_after(query, _sort_key(query.order_by)))
    by_key, by_id = (key.desc(), runs.c.id.desc()) if query.is_descending else (key, runs.c.id)
    return statement.order_by(by_key.nulls_last(), by_id).limit(query.limit + 1)


def token_of(row: Any) -> str:
    """Return the token that goes on after a row of the page."""
    return json.dumps([row.sort_key, row.id])


def _filters(query: RunQuery) -> list[ColumnElement[bool]]:
    filters: list[ColumnElement[bool]] = []
    if query.experiment:
        filters.append(runs.c.experiment == query.experiment)
    if query.states:
        filters.append(runs.c.state.in_(state.value for state in query.states))
    if query.owner is not None:
        filters.append(runs.c.owner == query.owner)
    if query.name_contains:
        filters.append(contains(runs.c.name, query.name_contains))
    return [*filters, *(has_element(runs.c.tags, tag) for tag in sorted(query.tags))]


def _sort_key(order_by: str) -> ColumnElement[Any]:
    match order_by:
        case "create_time":
            return runs.c.create_time_ns
        case "name":
            return runs.c.name
        case "step":
            return runs.c.step
        case "state":
            order = {state.value: index for index, state in enumerate(RunState)}
            return case(order, value=runs.c.state)
    kind, _, name = order_by.partition(".")
    if kind == "metrics" and name:
        return number_of(runs.c.metrics, name)
    choices = "create_time, name, state, step or metrics.NAME"
    message = f"runs cannot be ordered by {order_by!r}; use {choices}"
    raise InvalidRequest([Violation("order_by", message)])


def _is_after(query: RunQuery, key: ColumnElement[Any]) -> ColumnElement[bool]:
    try:
        value, run_id = json.loads(query.after)
        is_known = isinstance(run_id, str) and isinstance(value, int | float | str | None)
    except (ValueError, TypeError):
        is_known = False
    if not is_known:
        message = "the page token is not valid; start again without one"
        raise InvalidRequest([Violation("page_token", message)])
    is_later_id = runs.c.id < run_id if query.is_descending else runs.c.id > run_id
    if value is None:
        return and_(key.is_(None), is_later_id)
    is_later = key < value if query.is_descending else key > value
    return or_(is_later, and_(key == value, is_later_id), key.is_(None))
