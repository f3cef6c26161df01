"""Give what lists ask for columns of its own, and configs and metrics tables by name.

Revision 0006, after 0005.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from lab_server.store import value_index
from lab_server.store.portable.dialects import AnyText, JsonText
from lab_server.store.rows import parse_json, strict_json

revision = "0006"
down_revision = "0005"

_ROWS_AT_ONCE: Final = 200
_NUMBERS: Final = ("start_time_ns", "end_time_ns", "attempt", "total_steps")
_TEXTS: Final = ("reason", "slot", "config_hash", "device", "notes")
_NULLABLE: Final[dict[str, TypeEngine[Any]]] = {
    "checkpoint_step": sa.BigInteger(),
    "parent": AnyText(),
    "search": AnyText(),
    "trial": sa.BigInteger(),
}
_LISTED: Final = (
    *("create_time_ns", "id", "experiment", "state", "step", "owner", "name", "priority"),
    *("start_time_ns", "end_time_ns", "attempt", "total_steps", "checkpoint_step", "slot"),
    *("config_hash", "device", "parent", "search", "trial", "tags", "reason", "notes"),
)
_JSON: Final = ("request", "details", "configs", "metrics", "extremes")

_runs = sa.table(
    "runs",
    *(sa.column(name, AnyText()) for name in ("id", "state", *_TEXTS)),
    *(sa.column(name, JsonText()) for name in _JSON),
    *(sa.column(name, sa.BigInteger()) for name in _NUMBERS),
    *(sa.column(name, kind) for name, kind in _NULLABLE.items()),
)
_run_configs = sa.table(
    "run_configs",
    *(sa.column(name, AnyText()) for name in ("name", "run_id", "type", "text")),
    sa.column("number", sa.Double()),
)
_run_metrics = sa.table(
    "run_metrics",
    *(sa.column(name, AnyText()) for name in ("name", "run_id")),
    *(sa.column(name, sa.Double()) for name in ("last", "least", "largest")),
    sa.column("is_nan", sa.Boolean()),
)


def upgrade() -> None:
    """Change the tables, and fill what is new from the JSON of each run."""
    for name in _NUMBERS:
        # a constant default needs no copy of the table
        op.add_column("runs", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name in _TEXTS:
        op.add_column("runs", sa.Column(name, AnyText(), nullable=False, server_default=""))
    for name, kind in _NULLABLE.items():
        op.add_column("runs", sa.Column(name, kind, nullable=True))
    _make_tables()
    connection = op.get_bind()
    ids = connection.execute(sa.select(_runs.c.id).order_by(_runs.c.id)).scalars().all()
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        _fill(connection, ids[start : start + _ROWS_AT_ONCE])
    if connection.dialect.name == "sqlite":
        op.drop_index("runs_by_create_time", table_name="runs")
        op.create_index("runs_listed", "runs", list(_LISTED))


def _make_tables() -> None:
    op.create_table(
        "run_configs",
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("type", AnyText(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", AnyText(), nullable=True),
        sa.PrimaryKeyConstraint("name", "run_id", name=op.f("run_configs_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_metrics",
        sa.Column("name", AnyText(), nullable=False),
        sa.Column("run_id", AnyText(), nullable=False),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("is_nan", sa.Boolean(), nullable=False),
        sa.Column("least", sa.Double(), nullable=True),
        sa.Column("largest", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", "run_id", name=op.f("run_metrics_key")),
        sqlite_with_rowid=False,
    )
    for table in ("run_configs", "run_metrics"):
        op.create_index(f"{table}_by_run", table, ["run_id"])


def _fill(connection: sa.Connection, ids: Sequence[str]) -> None:
    columns = [_runs.c[name] for name in ("id", "state", *_JSON)]
    query = sa.select(*columns).where(_runs.c.id.in_(ids))
    configs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for row in connection.execute(query).all():
        request, details = parse_json(row.request), parse_json(row.details)
        new = {name: details.pop(name) for name in (*_NUMBERS, *_TEXTS) if name in details}
        new |= {name: request.pop(name) for name in _TEXTS if name in request}
        parent, trial = request.get("parent"), request.get("trial")
        new["checkpoint_step"] = details.pop("checkpoint_step", None)
        new["parent"] = parent[0] if parent else None
        new["search"], new["trial"] = trial[:2] if trial else (None, None)
        new["request"], new["details"] = strict_json(request), strict_json(details)
        connection.execute(_runs.update().where(_runs.c.id == row.id).values(new))
        configs += value_index.config_rows(row.id, parse_json(row.configs))
        if row.state not in value_index.LIVE_STATES:
            last = parse_json(row.metrics)
            last = {name: math.nan if value is None else value for name, value in last.items()}
            metrics += value_index.metric_rows(row.id, last, parse_json(row.extremes))
    for table, rows in ((_run_configs, configs), (_run_metrics, metrics)):
        if rows:
            connection.execute(table.insert(), rows)
