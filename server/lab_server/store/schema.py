"""The tables of a SqlStore."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)

from lab_server.store.portable.dialects import AnyText, JsonText

SCHEMA_REVISION: Final = "0006"
"""The last of the revisions in `migrations`, which come to these tables."""

LAST_POSITION: Final = "last_position"
"""In store_meta: the highest position that was ever given to an event."""

IS_INCOMPLETE: Final = "is_incomplete"
"""In store_meta, while the store is being copied from another one."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_key",
        "uq": "%(table_name)s_by_%(column_0_N_name)s",
        "fk": "%(table_name)s_of_%(referred_table_name)s",
    }
)

_ID: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row number must be an INTEGER

runs = Table(
    "runs",
    metadata,
    Column("id", AnyText, primary_key=True),
    # what lists filter and order by
    Column("experiment", AnyText, nullable=False),
    Column("name", AnyText, nullable=False),
    Column("owner", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("tags", JsonText, nullable=False),  # a JSON list
    Column("metrics", JsonText, nullable=False),  # a JSON object; NaN is null
    Column("step", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("queue_key", BigInteger, nullable=False),
    Column("create_time_ns", BigInteger, nullable=False),
    Column("start_time_ns", BigInteger, nullable=False, server_default="0"),
    Column("end_time_ns", BigInteger, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    Column("total_steps", BigInteger, nullable=False, server_default="0"),
    Column("checkpoint_step", BigInteger),
    Column("reason", AnyText, nullable=False, server_default=""),
    Column("slot", AnyText, nullable=False, server_default=""),
    Column("config_hash", AnyText, nullable=False, server_default=""),
    Column("device", AnyText, nullable=False, server_default=""),
    Column("notes", AnyText, nullable=False, server_default=""),
    # ids and a number that are in the request, too
    Column("parent", AnyText),
    Column("search", AnyText),
    Column("trial", BigInteger),
    # the rest, as JSON
    Column("request", JsonText, nullable=False),
    Column("details", JsonText, nullable=False),
    # the configs that its plan knew, written once: a JSON object; see lab_server.store.rows
    Column("configs", JsonText, nullable=False),
    # by metric its smallest and its largest finite value, a JSON object of pairs
    Column("extremes", JsonText, nullable=False),
    Index("runs_by_state", "state"),
)

_ONLY_ON: Final = "only_on"  # in an index's info: the one dialect that has it


def is_on(dialect: str, thing: object) -> bool:
    """Return whether a database of a dialect has a thing of the schema."""
    return not isinstance(thing, Index) or thing.info.get(_ONLY_ON, dialect) == dialect


def _index(name: str, *columns: Column[Any], only_on: str) -> None:
    Index(name, *columns, info={_ONLY_ON: only_on}).ddl_if(dialect=only_on)


_BY_CREATE_TIME: Final = (runs.c.create_time_ns, runs.c.id)
_index("runs_by_create_time", *_BY_CREATE_TIME, only_on="postgresql")
# SQLite reads a row's JSON to come to what lies behind it, so lists read this instead of the table: it has
# all that they filter and order by, what may be long at its end
_index(
    "runs_listed",
    *_BY_CREATE_TIME,
    *(
        runs.c[name]
        for name in (
            *("experiment", "state", "step", "owner", "name", "priority", "start_time_ns"),
            *("end_time_ns", "attempt", "total_steps", "checkpoint_step", "slot", "config_hash"),
            *("device", "parent", "search", "trial", "tags", "reason", "notes"),
        )
    ),
    only_on="sqlite",
)

# what lists ask of configs and metrics, by name; see lab_server.store.value_index
run_configs = Table(
    "run_configs",
    metadata,
    Column("name", AnyText, primary_key=True),
    Column("run_id", AnyText, primary_key=True),
    Column("type", AnyText, nullable=False),
    Column("number", Double),
    Column("text", AnyText),
    Index("run_configs_by_run", "run_id"),
    sqlite_with_rowid=False,  # a name's values of all runs lie together
)

run_metrics = Table(
    "run_metrics",
    metadata,
    Column("name", AnyText, primary_key=True),
    Column("run_id", AnyText, primary_key=True),
    Column("last", Double),
    Column("is_nan", Boolean, nullable=False),  # the last value
    Column("least", Double),
    Column("largest", Double),
    Index("run_metrics_by_run", "run_id"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("position", _ID, primary_key=True, autoincrement=False),
    # no foreign key: a deleted run is gone before the last of its events
    Column("run_id", AnyText, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", AnyText, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("run_id", "seq"),
)

event_blocks = Table(
    "event_blocks",
    metadata,
    # in place of the rows of `events` that a block holds; see lab_server.store.blocks
    Column("first_position", _ID, primary_key=True, autoincrement=False),
    Column("last_position", BigInteger, nullable=False),
    Column("run_id", AnyText, nullable=False),
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
    Column("run_id", AnyText, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
)

series_chunks = Table(
    "series_chunks",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("run_id", AnyText, nullable=False),
    Column("metric", AnyText, nullable=False),
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
    Column("key", AnyText, primary_key=True),
    Column("fingerprint", AnyText, nullable=False),
    Column("run_id", AnyText, ForeignKey("runs.id"), nullable=False),
    Index("idempotency_records_by_run", "run_id"),
)

searches = Table(
    "searches",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("experiment", AnyText, nullable=False),
    Column("owner", AnyText, nullable=False),
    Column("state", AnyText, nullable=False),
    Column("create_time_ns", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("idempotency_key", AnyText, unique=True),
    Column("fingerprint", AnyText, nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Index("searches_by_state", "state"),
)

search_entries = Table(
    "search_entries",
    metadata,
    Column("search_id", AnyText, ForeignKey("searches.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
)

agents = Table(
    "agents",
    metadata,
    # the credentials of agents; only hashes of their secrets
    Column("id", AnyText, primary_key=True),
    Column("name", AnyText, nullable=False),
    Column("pool", AnyText, nullable=False),
    Column("sha256", AnyText, nullable=False),
    Column("create_time_ns", BigInteger, nullable=False),
    Column("revoke_time_ns", BigInteger, nullable=False),
)

join_tokens = Table(
    "join_tokens",
    metadata,
    # those that were used, and those that servers made for the jobs of their pools
    Column("id", AnyText, primary_key=True),
    Column("pool", AnyText, nullable=False),
    Column("sha256", AnyText, nullable=False),
    Column("expire_time_ns", BigInteger, nullable=False),
    Column("used_by", AnyText, nullable=False),
)

meta = Table(
    "store_meta",
    metadata,
    Column("name", AnyText, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

servers = Table(
    "servers",
    metadata,
    # the one that writes to a store that several servers can reach; see lab_server.store.databases.postgresql
    Column("id", AnyText, primary_key=True),
    Column("session", AnyText, nullable=False),
    Column("address", AnyText, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),  # by the database's clock
    Column("last_commit", BigInteger, nullable=False),
)

members = Table(
    "members",
    metadata,
    # every server of such a store, the one that writes and those that read; see lab_server.store.databases.members
    Column("session", AnyText, primary_key=True),
    Column("home", AnyText, nullable=False),
    Column("address", AnyText, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),  # by the database's clock
)

secrets = Table(
    "secrets",
    metadata,
    # what the servers of a store must have in common
    Column("name", AnyText, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
