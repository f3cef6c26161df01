"""Statements that are executed with each event: compiled once, where nothing else is to be done for a call."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import Executable

_SQLITE = sqlite.dialect(paramstyle="named")


class Prepared:
    """A statement whose parameters are all given by name.

    SQLite's driver gets the text as it is, in the transaction that the connection has begun: what SQLAlchemy
    does for a statement takes longer there than executing it. Other databases change texts on their way (see
    `dialects`), so they go it.

    Args:
        statement: one that SQLite's driver takes values for, and gives them back, as they are.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._text = str(statement.compile(dialect=_SQLITE))  # type: ignore[attr-defined]

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute it, and return how many rows it changed."""
        if connection.dialect.name == "sqlite":
            return execute_in_sqlite(connection, self._text, parameters).rowcount
        return connection.execute(self._statement, parameters).rowcount

    def execute_each(self, connection: Connection, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Execute it with each of some parameters; other databases get all of them at once."""
        if connection.dialect.name == "sqlite":
            for each in parameters:
                execute_in_sqlite(connection, self._text, each)
        elif parameters:
            connection.execute(self._statement, parameters)

    def scalar(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Execute it, and return the one value that it gives."""
        if connection.dialect.name == "sqlite":
            ((value,),) = execute_in_sqlite(connection, self._text, parameters)
            return value
        return connection.execute(self._statement, parameters).scalar_one()


def execute_in_sqlite(
    connection: Connection, text: str, parameters: Mapping[str, Any] | None = None
) -> sqlite3.Cursor:
    """Have SQLite's driver execute a statement, without what SQLAlchemy does around it.

    Raises:
        DBAPIError: As SQLAlchemy raises it.
    """
    try:
        return driver_of(connection).execute(text, parameters or {})
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            text, parameters, error, sqlite3.Error, dialect=connection.dialect
        ) from error


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return what SQLite's driver calls a connection."""
    driver: Any = connection.connection.driver_connection
    return cast(sqlite3.Connection, driver)
