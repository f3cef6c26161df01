"""Indicators: what kind each name is of, declared by name or by wildcard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase

from lab_core.errors import TrackerError


class Kind(Enum):
    """What becomes of the values added under a name when they are saved."""

    SCALAR = "scalar"
    QUEUE = "queue"
    HISTOGRAM = "histogram"
    INDEXED = "indexed_scalar"
    TEXT = "text"
    IMAGE = "image"

    @property
    def is_numeric(self) -> bool:
        """Whether its values are plain numbers, and make a scalar of their mean."""
        return self in (Kind.SCALAR, Kind.QUEUE, Kind.HISTOGRAM)


@dataclass(frozen=True, slots=True)
class Indicator:
    """What is known of a name, or of all the names that a wildcard matches.

    Attributes:
        name: a full name, or a pattern in which each `*` stands for any text.
        window: how many of the last values are kept; None for those since the last save.
        is_print: whether the console shows it.
    """

    name: str
    kind: Kind
    window: int | None = None
    is_print: bool = False


_UNDECLARED = Indicator("*", Kind.SCALAR, is_print=True)


def checked_name(name: object) -> str:
    """Return a name that is one.

    Raises:
        TrackerError: If it is no text, empty, or cannot be stored.
    """
    if not isinstance(name, str) or not name:
        raise TrackerError(f"an indicator's name is a text, not {name!r}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise TrackerError(f"an indicator's name is Unicode, which {name!r} is not") from None
    return name


class Registry:
    """Declared indicators, and those that names turned out to be. Owned by one tracker."""

    def __init__(self) -> None:
        self._declared: dict[str, Indicator] = {}
        self._resolved: dict[str, Indicator] = {}

    def declare(self, indicator: Indicator) -> None:
        """Add a declaration; the same again is fine, and may change what is printed.

        Raises:
            TrackerError: If the name is declared, or in use, as something else.
        """
        name = checked_name(indicator.name)
        if indicator.window is not None and (
            isinstance(indicator.window, bool)
            or not isinstance(indicator.window, int)
            or indicator.window < 1
        ):
            raise TrackerError(
                f"the queue size of {name!r} must be at least 1, got {indicator.window!r}"
            )
        known = self._declared.get(name) or self._resolved.get(name)
        if known and replace(known, is_print=indicator.is_print) != replace(
            indicator, name=known.name
        ):
            raise TrackerError(
                f"{name!r} is already {_describe(known)} and cannot become {_describe(indicator)}; "
                "give it another name"
            )
        # A new mapping: other threads may be going through the one before.
        self._declared = {**self._declared, name: indicator}
        # Names seen before under another declaration keep their kind, and take what is printed.
        for seen in [s for s in self._resolved if s == name or _matches(s, name)]:
            found = self._find(seen)
            if found.kind is self._resolved[seen].kind:
                self._resolved[seen] = found

    def resolve(self, name: str) -> Indicator:
        """Return what `name` is: its own declaration, else the closest wildcard, else a scalar."""
        found = self._resolved.get(name)
        if found is None:
            found = self._resolved[name] = self._find(name)
        return found

    def peek(self, name: str) -> Indicator:
        """Return what `name` would be, and change nothing."""
        return self._resolved.get(name) or self._find(name)

    def _find(self, name: str) -> Indicator:
        declared = self._declared.get(name)
        if declared is not None:
            return declared
        matching = [d for d in self._declared.values() if "*" in d.name and _matches(name, d.name)]
        # The closest is the one that says most of the name.
        return max(matching, key=lambda d: len(d.name.replace("*", "")), default=_UNDECLARED)

    def listing(self) -> dict[str, Indicator]:
        """Return every name and pattern that is declared or was used, by name."""
        return {**self._declared, **self._resolved}


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))


def _describe(indicator: Indicator) -> str:
    kind = indicator.kind.value.replace("_", " ")
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind}" + (f" of {indicator.window} values" if indicator.window else "")
