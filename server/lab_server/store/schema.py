"""The tables of a SqlStore."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION: Final = 1

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    # what lists filter and order by
    Column("experiment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tags", Text, nullable=False),  # a JSON list
    Column("metrics", Text, nullable=False),  # a JSON object; NaN is null
    Column("step", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("queue_key", BigInteger, nullable=False),
    Column("create_time_ns", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    # the rest, as JSON
    Column("request", Text, nullable=False),
    Column("details", Text, nullable=False),
    Index("runs_by_create_time", "create_time_ns", "id"),
    Index("runs_by_state", "state"),
)

events = Table(
    "events",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # no foreign key: a deleted run is gone before the last of its events
    Column("run_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "seq"),
)

event_blocks = Table(
    "event_blocks",
    metadata,
    # in place of the rows of `events` that a block holds; see lab_server.store.blocks
    Column("first_position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("last_position", BigInteger, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("kinds", BigInteger, nullable=False),  # a set of bits
    Column("data", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "last_seq"),
)

histories = Table(
    "histories",
    metadata,
    # up to which seq the chunks hold what the run's log says of metrics
    Column("run_id", Text, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
)

series_chunks = Table(
    "series_chunks",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("num_points", Integer, nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("points", LargeBinary, nullable=False),
    # with all that a reader asks for before it reads a chunk itself
    Index(
        "series_chunks_by_step", "run_id", "metric", "first_step", "last_step", "num_points", "id"
    ),
    # a reader that has an id gets that chunk or none, never another one
    sqlite_autoincrement=True,
)

idempotency_records = Table(
    "idempotency_records",
    metadata,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Index("idempotency_records_by_run", "run_id"),
)

meta = Table(
    "store_meta",
    metadata,
    # "schema_version", and "last_position": the highest one that was ever given to an event
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
