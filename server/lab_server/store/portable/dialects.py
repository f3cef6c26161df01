"""What SQLite and PostgreSQL write differently: texts, lists of JSON, and the search in a text.

Statements are written once, with these; each database compiles them its way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Dialect, Text, TypeDecorator, func
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


def begins_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Return whether a column begins with a text, with case and without wildcards."""
    # a range, not LIKE: that ignores case, knows wildcards and uses no index
    beginning = func.substr(column, 1, len(prefix), type_=column.type)
    return (column >= prefix) & (beginning == prefix)


def contains(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return whether a column has a text in it, with case and without wildcards."""
    return _IndexIn(column, sa.literal(text, AnyText())) > 0


def has_element(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return whether a column's JSON list of strings has this one."""
    return any_element(column, lambda element: element == text)


def contains_any_case(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Return whether a column has a text in it, whatever the case of the letters A to Z."""
    return _IndexIn(_Lower(column), sa.literal(_lower(text), AnyText())) > 0


def any_element(
    column: ColumnElement[str], test: Callable[[ColumnElement[str]], ColumnElement[bool]]
) -> ColumnElement[bool]:
    """Return whether a test holds for one of the strings in a column's JSON list."""
    elements = _Elements(column).table_valued(sa.column("value", AnyText()))
    return sa.select(elements.c.value).where(test(elements.c.value)).exists()


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column that is compared with, but not looked up.

    SQLite takes an index of one column for a way to few rows, and then reads each of them, with its JSON.
    """
    return _Unindexed(column, type_=column.type)


def _lower(text: str) -> str:
    return text.translate({upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)})


class _IndexIn(FunctionElement[int]):
    type = sa.Integer()
    inherit_cache = True


class _Elements(FunctionElement[str]):
    inherit_cache = True


class _Lower(FunctionElement[str]):
    type = AnyText()
    inherit_cache = True


class _Unindexed(FunctionElement[Any]):
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], *, type_: TypeEngine[Any]) -> None:
        super().__init__(column)
        self.type = type_


@compiles(_Unindexed, "sqlite")
def _(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return f"+{compiler.process(column, **options)}"


@compiles(_Unindexed, "postgresql")
def _(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    (column,) = element.clauses
    return compiler.process(column, **options)


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
    return compiler.process(func.json_array_elements_text(sa.cast(column, sa.JSON)), **options)


@compiles(_Lower, "sqlite")
def _(element: _Lower, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(func.lower(*element.clauses), **options)


@compiles(_Lower, "postgresql")
def _(element: _Lower, compiler: SQLCompiler, **options: Any) -> str:
    (text,) = element.clauses
    return compiler.process(func.lower(text.collate("C")), **options)
