"""Plain values, and the types that a config message can set.

The grammar of a type: `bool`, `int`, `float`, `str`, `None`, `any` (every plain value),
`list[T]`, `T | U`, and `object` for values that only code can create.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

PlainValue: TypeAlias = bool | int | float | str | list["PlainValue"] | None

_INT_BOUND = 2**63  # ints in messages and databases have 64 bits
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NOUNS = {
    "bool": "a bool",
    "int": "an int",
    "float": "a float",
    "str": "a string",
    "None": "None",
    "any": "a plain value",
    "object": "an object",
}


class Misfit(Exception):
    """The value is not of the type."""


class TooLarge(Misfit):
    """An int beyond 64 bits, which messages and databases cannot hold."""


class Atom(NamedTuple):
    """One alternative of a type; `element` is the type inside a list."""

    name: str
    element: tuple[Atom, ...] = ()


def unboxed(value: Any) -> Any:
    """Return a numpy scalar as a Python number; anything else unchanged."""
    # compared by name, as configs do not import numpy
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value


def is_plain(value: object) -> bool:
    """Return whether a config message can hold this value."""
    value = unboxed(value)
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    if isinstance(value, int):
        return -_INT_BOUND <= value < _INT_BOUND
    return value is None or isinstance(value, float | str)


def to_plain(value: object) -> PlainValue:
    """Convert a plain value to Python's own types: subclasses, tuples and numpy scalars are replaced."""
    value = unboxed(value)
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise Misfit


@lru_cache(maxsize=1024)
def parse_type(text: str) -> tuple[Atom, ...]:
    """Parse a type's text; unknown names count as `object`."""
    atoms = []
    for part in _split(text):
        if part.startswith("list[") and part.endswith("]"):
            atoms.append(Atom("list", parse_type(part[5:-1])))
        else:
            atoms.append(Atom(part if part in _NOUNS else "object"))
    return tuple(atoms)


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def describe(atoms: tuple[Atom, ...]) -> str:
    """Return the type in words: "an int or None"."""
    return " or ".join(
        f"a list, each {describe(a.element)}" if a.name == "list" else _NOUNS[a.name] for a in atoms
    )


def is_settable(type_text: str) -> bool:
    """Return whether any plain value can be of this type."""
    return any(atom.name != "object" for atom in parse_type(type_text))


def accepts_none(type_text: str) -> bool:
    """Return whether the type includes None."""
    return any(atom.name in ("None", "any") for atom in parse_type(type_text))


def fit(atoms: tuple[Atom, ...], value: object, coerce_strings: bool = False) -> PlainValue:
    """Convert a value to the type: for `float`, an int becomes a float.

    Args:
        atoms: the parsed type.
        value: the given value; a bool is never accepted as an int.
        coerce_strings: convert strings from a command line to the type.

    Raises:
        Misfit: If no alternative accepts the value.
    """
    if coerce_strings and isinstance(value, str):
        return _read(atoms, value)
    value = unboxed(value)
    is_too_large = False
    for atom in atoms:
        try:
            return _fit_exactly(atom, value)
        except TooLarge:
            is_too_large = True
        except Misfit:
            continue
    if isinstance(value, int) and not isinstance(value, bool):
        for atom in atoms:
            if atom.name == "float":
                return _as_float(value)
    raise TooLarge if is_too_large else Misfit


def _fit_exactly(atom: Atom, value: object) -> PlainValue:
    name = atom.name
    if name == "list" and isinstance(value, list | tuple):
        return [fit(atom.element, v) for v in value]
    if name == "any" and is_plain(value):
        return to_plain(value)
    if name == "None" and value is None:
        return None
    if name == "bool" and isinstance(value, bool):
        return value
    if name == "float" and isinstance(value, float):
        return float(value)
    if name == "str" and isinstance(value, str):
        return str(value)
    # integers of torch are not instances of int, but have __index__
    if name == "int" and hasattr(value, "__index__") and not isinstance(value, bool):
        return _as_int(operator.index(value))
    raise Misfit


def _as_int(value: int) -> int:
    if not -_INT_BOUND <= value < _INT_BOUND:
        raise TooLarge
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Misfit from None


def _read(atoms: tuple[Atom, ...], text: str) -> PlainValue:
    """Parse a string from a command line; `str` and `any` are tried last."""
    for atom in sorted(atoms, key=lambda a: a.name in ("str", "any")):
        try:
            return _read_as(atom, text.strip(), text)
        except (Misfit, ValueError, OverflowError):
            continue
    raise Misfit


def _read_as(atom: Atom, word: str, text: str) -> PlainValue:
    match atom.name:
        case "bool" if word.lower() in _TRUE:
            return True
        case "bool" if word.lower() in _FALSE:
            return False
        case "int":
            return _as_int(int(word))
        case "float":
            return float(word)
        case "None" if word.lower() in ("none", "null"):
            return None
        case "list":
            return [_read(atom.element, w) for w in _list_words(word)]
        case "str":
            return text
        case "any":
            return _guess(text)
    raise Misfit


def _list_words(word: str) -> list[str]:
    """Split "[1, [2, 3], a]", also without the outer brackets, at its top-level commas."""
    inner = word[1:-1] if word[:1] + word[-1:] in ("[]", "()") else word
    words, depth, start = [], 0, 0
    for i, char in enumerate(inner):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            words.append(inner[start:i])
            start = i + 1
    words.append(inner[start:])
    if not words[-1].strip():
        words.pop()
    return [w.strip().strip("\"'") for w in words]


def _guess(text: str) -> PlainValue:
    import json

    try:
        value = json.loads(text)
    except ValueError:
        return text
    return to_plain(value) if is_plain(value) else text
