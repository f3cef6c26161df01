"""What Alembic runs to migrate: on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from lab_server.store import schema

_connection = context.config.attributes["connection"]
context.configure(
    connection=_connection,
    target_metadata=schema.metadata,
    include_object=lambda thing, *_: schema.is_on(_connection.dialect.name, thing),
    user_module_prefix="",  # the columns' own types: AnyText, JsonText
    # SQLite alters a table by copying it
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
