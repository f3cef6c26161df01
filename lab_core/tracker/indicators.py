"""Indicators: the kind of each metric, declared by name or by wildcard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase

from lab_core.errors import TrackerError


class Kind(Enum):
    """How the values added under a name are written when they are saved."""

    SCALAR = "scalar"
    QUEUE = "queue"
    HISTOGRAM = "histogram"
    INDEXED = "indexed_scalar"
    TEXT = "text"
    IMAGE = "image"

    @property
    def is_numeric(self) -> bool:
        """Whether its values are plain numbers, whose mean is written as a scalar."""
        return self in (Kind.SCALAR, Kind.QUEUE, Kind.HISTOGRAM)


@dataclass(frozen=True, slots=True)
class Indicator:
    """The declaration of a name, or of all names that a wildcard matches.

    Attributes:
        name: a full name, or a pattern in which each `*` matches any text.
        window: number of last values to keep; None keeps those since the last save.
        is_print: whether the console shows it.
    """

    name: str
    kind: Kind
    window: int | None = None
    is_print: bool = False


RESERVED_PREFIX = "system."
"""What no indicator's name may begin with."""

_UNDECLARED = Indicator("*", Kind.SCALAR, is_print=True)


def checked_name(name: object) -> str:
    """Validate an indicator's name.

    Raises:
        TrackerError: If it is not a string, empty, or not valid Unicode.
    """
    if not isinstance(name, str) or not name:
        raise TrackerError(f"an indicator's name must be a non-empty string, got {name!r}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise TrackerError(f"an indicator's name must be valid Unicode, got {name!r}") from None
    return name


def _refuse_reserved(name: str) -> None:
    if name.startswith(RESERVED_PREFIX):
        raise TrackerError(
            f"names that begin with {RESERVED_PREFIX!r} are those of what a run uses of its machine, "
            f"which the service records; give {name!r} another name"
        )


class Registry:
    """Declared indicators, and the indicator of each name in use. Owned by one tracker."""

    def __init__(self) -> None:
        self._declared: dict[str, Indicator] = {}
        self._resolved: dict[str, Indicator] = {}

    def declare(self, indicator: Indicator) -> None:
        """Add a declaration; repeating one may only change `is_print`.

        Raises:
            TrackerError: If the name is declared, or in use, as a different kind, or is reserved.
        """
        name = checked_name(indicator.name)
        _refuse_reserved(name)
        if indicator.window is not None and (
            isinstance(indicator.window, bool)
            or not isinstance(indicator.window, int)
            or indicator.window < 1
        ):
            raise TrackerError(
                f"the queue size of {name!r} must be a whole number of at least 1, got {indicator.window!r}"
            )
        known = self._declared.get(name) or self._resolved.get(name)
        if known and replace(known, is_print=indicator.is_print) != replace(
            indicator, name=known.name
        ):
            raise TrackerError(
                f"{name!r} is already {_describe(known)} and cannot become {_describe(indicator)}; "
                "give it another name"
            )
        # A new mapping: other threads may be iterating over the old one.
        self._declared = {**self._declared, name: indicator}
        # Names in use keep their kind and window; only `is_print` is updated.
        for seen in [s for s in self._resolved if s == name or _matches(s, name)]:
            found, used = self._find(seen), self._resolved[seen]
            if (found.kind, found.window) == (used.kind, used.window):
                self._resolved[seen] = found

    def resolve(self, name: str) -> Indicator:
        """Return the indicator of a name: its declaration, else the closest wildcard, else a scalar."""
        found = self._resolved.get(name)
        if found is None:
            found = self._resolved[name] = self._find(name)
        return found

    def peek(self, name: str) -> Indicator:
        """Return the indicator of a name without marking the name as used."""
        return self._resolved.get(name) or self._find(name)

    def _find(self, name: str) -> Indicator:
        _refuse_reserved(name)
        declared = self._declared.get(name)
        if declared is not None:
            return declared
        matching = [d for d in self._declared.values() if "*" in d.name and _matches(name, d.name)]
        # The closest pattern is the one with the most literal characters.
        return max(matching, key=lambda d: len(d.name.replace("*", "")), default=_UNDECLARED)

    def listing(self) -> dict[str, Indicator]:
        """Return all indicators declared or in use, by name or pattern."""
        return {**self._declared, **self._resolved}


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))


def _describe(indicator: Indicator) -> str:
    kind = indicator.kind.value.replace("_", " ")
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind}" + (f" of {indicator.window} values" if indicator.window else "")
