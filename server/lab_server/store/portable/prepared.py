"""Statements that are executed with each event: compiled once, where nothing else is to be done for a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import Executable

_SQLITE = sqlite.dialect(paramstyle="named")


class Prepared:
    """A statement whose parameters are all given by name.

    SQLite gets the text as it is: looking a statement up, and making up its result, takes longer there than
    executing it. Other databases change texts on their way (see `dialects`), so they go it.

    Args:
        statement: one that SQLite's driver takes values for as they are.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._text = str(statement.compile(dialect=_SQLITE))  # type: ignore[attr-defined]

    def execute(
        self, connection: Connection, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> CursorResult[Any]:
        """Execute it, once for each mapping of parameters."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, parameters)
        one_or_many: Any = parameters
        return connection.exec_driver_sql(self._text, one_or_many)
