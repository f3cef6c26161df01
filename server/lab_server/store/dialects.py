"""What SQLite and PostgreSQL write differently: texts, JSON, and the search in a text.

Statements are written once, with these; each database compiles them its way.
"""

from __future__ import annotations

import re
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Dialect, Text, TypeDecorator, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

# PostgreSQL's texts hold no NUL: it is written as two characters, the first of which is private
_MARK: Final = "\uf8ff"
_TO_MARKED: Final = {0: f"{_MARK}0", ord(_MARK): f"{_MARK}1"}
_FROM_MARKED: Final = {"0": "\0", "1": _MARK}
# in JSON both are written as escapes; a backslash that is escaped itself begins none
_ESCAPES: Final = re.compile(r"\\(?:\\|u0000|uf8ff)")
_MARKED_ESCAPES: Final = re.compile(r"\\(?:\\|uf8ff([01]))")
_ESCAPES_TO_MARKED: Final = {r"\u0000": r"\uf8ff0", r"\uf8ff": r"\uf8ff1"}

# what JSON and SQLite's paths write alike: no quotes, escapes, or letters beyond ASCII
_PLAIN_NAME: Final = re.compile(r"[ !#-\[\]-~]+")


class _PortableText(TypeDecorator[str]):
    """Text ordered by code points, as SQLite and Python do."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return what changes values for the database: nothing for SQLite, which takes any text."""
        return super().bind_processor(dialect) if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return what changes values from the database."""
        return super().result_processor(dialect, coltype) if dialect.name == "postgresql" else None


class AnyText(_PortableText):
    """Any text, NUL included."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text as the database takes it."""
        return value if value is None else value.translate(_TO_MARKED)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text as it was given."""
        if value is None or _MARK not in value:
            return value
        return re.sub(f"{_MARK}([01])", lambda match: _FROM_MARKED[match[1]], value)


class JsonText(_PortableText):
    """JSON in ASCII, as `json.dumps` writes it, whatever the strings in it are."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the JSON as the database can look into it."""
        if value is None:
            return None
        return _ESCAPES.sub(lambda match: _ESCAPES_TO_MARKED.get(match[0], match[0]), value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the JSON as it was given."""
        if value is None:
            return None

        def original(match: re.Match[str]) -> str:
            return match[0] if match[1] is None else (r"\u0000", r"\uf8ff")[int(match[1])]

        return _MARKED_ESCAPES.sub(original, value)


def contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return whether a column has a text in it, with case and without wildcards."""
    return _IndexIn(column, sa.literal(text, AnyText())) > 0


def has_element(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return whether a column's JSON list of strings has this one."""
    elements = _Elements(column).table_valued(sa.column("value", AnyText()))
    return sa.select(elements.c.value).where(elements.c.value == text).exists()


def number_of(column: ColumnElement[str], name: str) -> ColumnElement[float]:
    """Return the number of a name in a column's JSON object of numbers; NULL without one.

    9e999 and -9e999 are infinite.
    """
    return _NumberOf(column, sa.literal(name, AnyText()), name=name)


class _IndexIn(FunctionElement[int]):
    type = sa.Integer()
    inherit_cache = True


class _Elements(FunctionElement[str]):
    inherit_cache = True


class _NumberOf(FunctionElement[float]):
    type = sa.Double()
    inherit_cache = False  # SQLite's text depends on the name

    def __init__(self, *clauses: Any, name: str) -> None:
        super().__init__(*clauses)
        self.of_name = name


@compiles(_IndexIn, "sqlite")
def _(element: _IndexIn, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.instr(*element.clauses), **options)


@compiles(_IndexIn, "postgresql")
def _(element: _IndexIn, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.strpos(*element.clauses), **options)


@compiles(_Elements, "sqlite")
def _(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.json_each(*element.clauses), **options)


@compiles(_Elements, "postgresql")
def _(element: _Elements, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return compiler.process(
        func.json_array_elements_text(sa.cast(column, postgresql.JSON)), **options
    )


@compiles(_NumberOf, "sqlite")
def _(element: _NumberOf, compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    if _PLAIN_NAME.fullmatch(element.of_name):
        # looks for one name in half the time that json_each takes for all of them
        path = sa.literal(f'$."{element.of_name}"')
        return compiler.process(func.json_extract(column, path), **options)
    items = func.json_each(column).table_valued("key", "value")
    query = sa.select(items.c.value).where(items.c.key == name)
    return compiler.process(query.scalar_subquery(), **options)


@compiles(_NumberOf, "postgresql")
def _(element: _NumberOf, compiler: SQLCompiler, **options: Any) -> str:
    column, name = element.clauses
    # the number as it is written, and not jsonb's, which is none
    text = sa.cast(column, postgresql.JSON).op("->>")(name)
    number = sa.cast(func.replace(text, "9e999", "Infinity"), sa.Double)
    return compiler.process(number, **options)
