"""Settings as the fields of a dataclass: what each may be, and how it is read from what people wrote.

Command lines, environments and TOML files say the same in their own types: "3" and 3, "a, b" and ["a", "b"].
Written for this, as pydantic takes an eighth of a server's start to import.

The annotations of such a dataclass must be types, not texts: its module is without
`from __future__ import annotations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
)

T = TypeVar("T", bound="Declared")

_BOOLS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


class Declared(Protocol):
    """A frozen dataclass whose fields are made by `setting`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def contradictions(self) -> Iterator[str]:
        """Yield a sentence for each setting that does not fit another one."""


class Setting(NamedTuple):
    """What one setting may be.

    Attributes:
        kind: its type: bool, int, float, str, Path, a Literal, a tuple of str or of a dataclass like this,
            or one of them or None.
        default: MISSING if it must be given.
        help: what it is for, for people.
        above: it must be greater, if there is such a bound.
        at_least: the same.
        at_most: the same.
        check: returns the value to use instead; raises ValueError with a sentence if it is wrong.
    """

    kind: Any
    default: Any
    help: str
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    check: Callable[[Any], Any] | None = None

    def read(self, given: object) -> Any:
        """Return the value that is meant.

        Raises:
            Misfit: If it cannot be one.
        """
        try:
            value = _fit(self.kind, given)
            self._check_bounds(value)
        except _MustBe as wrong:
            raise Misfit([Problem((), f"must be {wrong}, got {given!r}")]) from None
        try:
            return value if self.check is None or value is None else self.check(value)
        except ValueError as wrong:
            raise Misfit([Problem((), str(wrong))]) from None

    def _check_bounds(self, value: Any) -> None:
        if self.above is not None and not value > self.above:
            raise _MustBe(f"greater than {self.above}")
        if self.at_least is not None and not value >= self.at_least:
            raise _MustBe(f"at least {self.at_least}")
        if self.at_most is not None and not value <= self.at_most:
            raise _MustBe(f"at most {self.at_most}")


class Problem(NamedTuple):
    """What is wrong with a setting.

    Attributes:
        path: its name, or that of a group, an index, and the name in there; empty if it is about several.
        sentence: what is wrong, without the name.
    """

    path: tuple[str, ...]
    sentence: str

    def within(self, *path: str) -> Problem:
        """Return the problem as one of a group's."""
        return Problem((*path, *self.path), self.sentence)

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.sentence}" if self.path else self.sentence


class Misfit(ValueError):
    """Settings are wrong; has all that is."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class _MustBe(Exception):
    """A value does not fit; says what it must be."""


def setting(default: Any = MISSING, help: str = "", **limits: Any) -> Any:  # noqa: A002
    """Return the field of a setting; `limits` are the further attributes of `Setting`.

    Args:
        default: its value, or a function that returns it.
        help: what it is for.
        **limits: bounds and checks.
    """
    metadata = {"help": help, **limits}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def settings_of(cls: type[Declared]) -> Mapping[str, Setting]:
    """Return what each setting of a dataclass may be, in the order of their declaration."""
    return {
        each.name: Setting(
            each.type,
            each.default if each.default_factory is MISSING else each.default_factory(),
            **each.metadata,
        )
        for each in fields(cls)
    }


def read(cls: type[T], given: Mapping[str, Any]) -> T:
    """Return the settings that are meant.

    Raises:
        Misfit: With all that is wrong.
    """
    known = settings_of(cls)
    values: dict[str, Any] = {}
    problems = [
        Problem((name,), "it must be given")
        for name, each in known.items()
        if each.default is MISSING and name not in given
    ]
    for name, value in given.items():
        if name not in known:
            problems.append(Problem((name,), "there is no such setting"))
            continue
        try:
            values[name] = known[name].read(value)
        except Misfit as wrong:
            problems += [each.within(name) for each in wrong.problems]
    if problems:
        raise Misfit(problems)
    found = cls(**values)
    if problems := [Problem((), sentence) for sentence in found.contradictions()]:
        raise Misfit(problems)
    return found


def _fit(kind: Any, given: object) -> Any:
    """Return a value of this kind, or raise `_MustBe`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if given is None:
            return None
        (kind,) = (each for each in inner if each is not NoneType)
        return _fit(kind, given)
    if origin is Literal:
        if given in inner:
            return given
        *most, last = map(repr, inner)
        raise _MustBe(f"{', '.join(most)} or {last}")
    if origin is tuple:
        return _texts(given) if inner[0] is str else _groups(inner[0], given)
    return _FITS[kind](given)


def _texts(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    if isinstance(given, list | tuple) and all(isinstance(each, str) for each in given):
        return tuple(given)
    raise _MustBe("a list of texts")


def _groups(cls: type[Declared], given: object) -> tuple[Declared, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, Mapping) for each in given):
        raise _MustBe("tables of the settings file")
    found, problems = [], []
    for index, each in enumerate(given):
        try:
            found.append(read(cls, each))
        except Misfit as wrong:
            problems += [problem.within(str(index)) for problem in wrong.problems]
    if problems:
        raise Misfit(problems)
    return tuple(found)


def _bool(given: object) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in _BOOLS:
        return _BOOLS[given.strip().lower()]
    raise _MustBe("true or false")


def _int(given: object) -> int:
    try:
        if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
            return int(given)
    except ValueError:
        pass
    raise _MustBe("a whole number")


def _float(given: object) -> float:
    try:
        if isinstance(given, str | int | float) and not isinstance(given, bool):
            found = float(given)
            if math.isfinite(found):
                return found
    except (ValueError, OverflowError):
        pass
    raise _MustBe("a finite number")


def _str(given: object) -> str:
    if isinstance(given, str):
        return given
    raise _MustBe("a text")


def _path(given: object) -> Path:
    if isinstance(given, str | Path):
        return Path(given)
    raise _MustBe("a path")


_FITS: Final[Mapping[Any, Callable[[object], Any]]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    Path: _path,
}
