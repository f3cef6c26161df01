"""Values in the JSON of a column, as SQLite and PostgreSQL write them: their types, numbers and texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Integer, case, func, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from lab_server.store.portable.dialects import AnyText

# what JSON and SQLite's paths write alike: no quotes, escapes, or letters beyond ASCII
_PLAIN_NAME: Final = re.compile(r"[ !#-\[\]-~]+")
_SQLITE_TYPES: Final = {"integer": "number", "real": "number", "text": "string"}


def type_in(column: ColumnElement[Any], key: str, index: int | None = None) -> ColumnElement[str]:
    """Return the type of a value in a column's JSON object; NULL without one.

    Args:
        column: a JSON object.
        key: of the value, or of the list that it is in.
        index: its place in the list.

    Returns:
        "number", "string", "true", "false", "null", "object" or "array".
    """
    return _Type(column, key=key, index=index)


def number_in(
    column: ColumnElement[Any], key: str, index: int | None = None
) -> ColumnElement[float]:
    """Return a number in a column's JSON object, 1 for true and 0 for false, NULL for all else.

    9e999 and -9e999 are infinite.
    """
    return _Number(column, key=key, index=index)


def text_in(column: ColumnElement[Any], key: str, index: int | None = None) -> ColumnElement[str]:
    """Return a string in a column's JSON object; NULL for all else."""
    return _Text(column, key=key, index=index)


def keys_of(column: ColumnElement[Any]) -> sa.TableValuedAlias:
    """Return the keys of a column's JSON object, as the rows of a table with the column `key`."""
    return _Each(column).table_valued(sa.column("key", AnyText()))


class _InJson(FunctionElement[Any]):
    """A value in JSON.

    Its place is an argument that is no parameter: SQLite's text depends on it, and what has been compiled is
    kept for each place.
    """

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], *, key: str, index: int | None) -> None:
        super().__init__(column, sa.literal_column(json.dumps([key, index])))

    def parts(self) -> tuple[ColumnElement[Any], str, int | None]:
        """Return the column, the key and the index."""
        column, place = self.clauses
        key, index = json.loads(place.name)
        return column, key, index


class _Type(_InJson):
    type = AnyText()
    inherit_cache = True


class _Number(_InJson):
    type = sa.Double()
    inherit_cache = True


class _Text(_InJson):
    type = AnyText()
    inherit_cache = True


class _Each(FunctionElement[Any]):
    inherit_cache = True


_Found = tuple[ColumnElement[Any], ColumnElement[Any]]


def _in_sqlite(element: _InJson) -> _Found:
    """Return type and value."""
    column, key, index = element.parts()
    below = "" if index is None else f"[{index}]"
    if _PLAIN_NAME.fullmatch(key):
        # looks for one name in half the time that json_each takes for all of them
        path = literal(f'$."{key}"{below}')
        return func.json_type(column, path), func.json_extract(column, path)

    def of_pair(what: Callable[[Any], ColumnElement[Any]]) -> ColumnElement[Any]:
        pairs = func.json_each(column).table_valued("key", "value", "type")
        return select(what(pairs.c)).where(pairs.c.key == key).limit(1).scalar_subquery()

    if not below:
        return of_pair(lambda c: c.type), of_pair(lambda c: c.value)
    path = literal(f"${below}")
    return (
        of_pair(lambda c: func.json_type(c.value, path)),
        of_pair(lambda c: func.json_extract(c.value, path)),
    )


def _in_postgresql(element: _InJson) -> _Found:
    """Return type and value; the value as text, with a number as it is written and not as jsonb has it."""
    column, key, index = element.parts()
    found = sa.cast(column, sa.JSON).op("->")(literal(key, AnyText()))
    if index is not None:
        found = found.op("->")(sa.cast(index, Integer))
    text = sa.type_coerce(found.op("#>>")(sa.literal_column("'{}'")), AnyText())
    return func.json_typeof(found), text


@compiles(_Type, "sqlite")
def _(element: _Type, compiler: SQLCompiler, **options: Any) -> str:
    kind, _ = _in_sqlite(element)
    return compiler.process(case(_SQLITE_TYPES, value=kind, else_=kind), **options)


@compiles(_Type, "postgresql")
def _(element: _Type, compiler: SQLCompiler, **options: Any) -> str:
    kind, text = _in_postgresql(element)
    return compiler.process(case((kind == "boolean", text), else_=kind), **options)


@compiles(_Number, "sqlite")
def _(element: _Number, compiler: SQLCompiler, **options: Any) -> str:
    kind, value = _in_sqlite(element)
    is_number = kind.in_(("integer", "real", "true", "false"))
    return compiler.process(case((is_number, value)), **options)


@compiles(_Number, "postgresql")
def _(element: _Number, compiler: SQLCompiler, **options: Any) -> str:
    kind, text = _in_postgresql(element)
    number = sa.cast(func.replace(text, "9e999", "Infinity"), sa.Double)
    of_boolean = case((text == "true", 1.0), else_=0.0)
    return compiler.process(
        case((kind == "number", number), (kind == "boolean", of_boolean)), **options
    )


@compiles(_Text, "sqlite")
def _(element: _Text, compiler: SQLCompiler, **options: Any) -> str:
    kind, value = _in_sqlite(element)
    return compiler.process(case((kind == "text", value)), **options)


@compiles(_Text, "postgresql")
def _(element: _Text, compiler: SQLCompiler, **options: Any) -> str:
    kind, text = _in_postgresql(element)
    # ordered by code points, as the texts of columns are
    return compiler.process(case((kind == "string", text.collate("C"))), **options)


@compiles(_Each, "sqlite")
def _(element: _Each, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.json_each(*element.clauses), **options)


@compiles(_Each, "postgresql")
def _(element: _Each, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return compiler.process(func.json_each(sa.cast(column, sa.JSON)), **options)
